"""The variational bound on a picture's negative log likelihood, term by term (DDPM, Ho et al. 2020, equation 5).

L = L_T + sum_t L_t + L_0: what the noisiest x tells of the picture, what each step adds, and the last step, from
the least noisy x to the picture. All in nats, summed over a picture's numbers; `Bound.bits` divides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from latentbrush.diffusion.denoiser import Denoise
from latentbrush.diffusion.level import Level, Step
from latentbrush.diffusion.samplers import Variance, posterior_variance
from latentbrush.diffusion.schedule import Schedule
from latentbrush.errors import NotFiniteError, UserError

__all__ = [
    "Bound",
    "Decoder",
    "bound_levels",
    "discretised_log_likelihood",
    "gaussian_log_density",
    "variational_bound",
]

Decoder = Literal["bytes", "density"]
"""Of L_0: each of 256 values' probability (equation 13), or, for latents, a density, whose log may be positive."""

BINS = 256
HALF_BIN = 1 / (BINS - 1)
"""Of bytes in [-1, 1], which lie 2/255 apart."""
LEAST_VARIANCE = 1e-20


@dataclass(frozen=True)
class Bound:
    """Of B pictures, at S levels, noisiest first. float64, nats, summed over each picture's `dimensions` numbers.

    `prior` (B,): L_T = KL(q(x_T | x_0) || N(0, I)); `steps` (B, S - 1): the KL of each step from one level to the
    next; `decoder` (B,): L_0, from the last level. `errors` (B, S): the mean squared error of the estimate of x0 at
    each level. `levels`: which.
    """

    prior: Tensor
    steps: Tensor
    decoder: Tensor
    errors: Tensor
    levels: tuple[Level, ...]
    dimensions: int

    @property
    def total(self) -> Tensor:
        """(B,) nats: no less than -log p(x_0) in expectation over the noise."""
        return self.prior + self.steps.sum(1) + self.decoder

    @property
    def bits(self) -> Tensor:
        """(B,) bits per dimension."""
        return self.total / (self.dimensions * math.log(2))


def bound_levels(schedule: Schedule, n_steps: int | None = None) -> list[Level]:
    """The levels of the bound, noisiest first: all T of the schedule, or `n_steps` of them, evenly, with both ends.

    Fewer are a process of their own, with larger steps: its bound holds as well, and is looser for a good model.
    UserError for fewer than 2 or more than T.
    """
    T = schedule.num_train_timesteps
    count = T if n_steps is None else n_steps
    if not 2 <= count <= T:
        raise UserError(f"a bound of {count} steps; the schedule has {T}, so choose from 2 to {T}")
    times = torch.linspace(T - 1, 0, count, dtype=torch.float64).round().long()
    abar = schedule.alphas_cumprod[times]
    return [Level(math.sqrt(a), math.sqrt(1 - a), float(t)) for a, t in zip(abar.tolist(), times.tolist(), strict=True)]


@torch.no_grad()
def variational_bound(
    denoise: Denoise,
    x0: Tensor,
    levels: Sequence[Level],
    noise: Callable[[], Tensor],
    *,
    variance: Variance | None = None,
    decoder: Decoder = "bytes",
    on_level: Callable[[int], None] | None = None,
) -> Bound:
    """One draw of the bound for x0 (B, c, h, w), by one call of `denoise` a level.

    `levels`: as `bound_levels` gives them; `noise()`: fresh unit Gaussians like x0, asked once a level, in their
    order. `variance`: of the reverse steps, as in `ddpm`; 'learned_range' is what the network says (Nichol and
    Dhariwal 2021, equation 15), and None that where it says any, else 'fixed_large'. From the last level, whose
    posterior has none, the least variance is that of the step before it, as in the published code, and the mean is
    the estimate of x0. `decoder` 'bytes' wants x0 to hold bytes in [-1, 1], ValueError else, and is tighter where the
    denoiser clips. `on_level(i)` after each level. NotFiniteError where the network's output is not finite; UserError
    where it says no variance that is asked for.
    """
    truth = _as_bytes(x0) if decoder == "bytes" else x0.double()
    if len(levels) < 2:
        raise UserError(f"a bound of {len(levels)} levels has no steps; choose at least 2")
    errors, nats = [], []
    for i, level in enumerate(levels):
        seen = denoise(level.mix(x0, noise()), level)
        estimate = seen.x0.double()
        missed = truth - estimate
        errors.append(missed.square().flatten(1).mean(1))
        if i + 1 < len(levels):
            step = Step(level, levels[i + 1])
            small, large, share = _variances(step)
            chosen = _log_variance(variance, small, large, seen.log_var)
            # q and p have the same mean but for x0 and its estimate.
            each = _gaussian_kl(share * missed, math.log(small), chosen)
        else:
            small = _variances(Step(levels[i - 1], level))[0]
            large = _variances(Step(level, Level(1.0, 0.0)))[1]
            # For bytes, published code puts the posterior's variance in the fixed large one's place here.
            as_published = variance == "fixed_large" or (variance is None and seen.log_var is None)
            fixed = small if decoder == "bytes" and as_published else large
            chosen = _log_variance(variance, small, fixed, seen.log_var)
            likelihood = discretised_log_likelihood if decoder == "bytes" else gaussian_log_density
            each = -likelihood(truth, estimate, chosen)
        nats.append(each.flatten(1).sum(1))
        if on_level is not None:
            on_level(i)
    *steps, last = nats
    bound = Bound(
        _prior(truth, levels[0]), torch.stack(steps, 1), last, torch.stack(errors, 1), tuple(levels), x0[0].numel()
    )
    if not bound.total.isfinite().all():
        raise NotFiniteError("the variational bound is not finite; take the model in float32 (--dtype float32)")
    return bound


def discretised_log_likelihood(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log probabilities of bytes x in [-1, 1] under N(mean, exp(log_variance)), in nats, like x (DDPM, equation 13).

    Each byte has the mass of its bin, 2/255 wide, the first and the last all that lies beyond: the 256 sum to 1. By
    the Gaussian's own cumulative function, in logarithms; published code approximates it and stops at 1e-12.
    """
    deviation = (0.5 * log_variance).exp()
    low = torch.where(x <= -1 + HALF_BIN, -math.inf, (x - HALF_BIN - mean) / deviation)
    high = torch.where(x >= 1 - HALF_BIN, math.inf, (x + HALF_BIN - mean) / deviation)
    # Both in the tail where numbers are small, which is exact: the mass from a to b is that from -b to -a.
    flip = low + high > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    above, below = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    mass: Tensor = above + torch.log(-torch.expm1(below - above))
    return mass


def gaussian_log_density(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log N(x; mean, exp(log_variance)), in nats, like x."""
    return -0.5 * ((x - mean).square() * (-log_variance).exp() + log_variance + math.log(2 * math.pi))


def _gaussian_kl(difference: Tensor, log_q: float, log_p: Tensor) -> Tensor:
    """KL of two Gaussians whose means differ by `difference`, of log variances log_q and log_p, number by number."""
    return 0.5 * (log_p - log_q - 1 + (log_q - log_p).exp() + difference.square() * (-log_p).exp())


def _variances(step: Step) -> tuple[float, float, float]:
    """The posterior's variance, that of the forward step (over its scale), and how far x0 moves the mean."""
    (alpha, sigma), (alpha_next, sigma_next) = step.now.floats(), step.next.floats()
    small = max(posterior_variance(step), LEAST_VARIANCE)
    forward = alpha / alpha_next
    large = sigma**2 - (forward * sigma_next) ** 2
    return small, large, alpha_next * large / sigma**2


def _log_variance(variance: Variance | None, small: float, large: float, said: Tensor | None) -> Tensor:
    """Of the reverse step: of one number, or like x0 where the network says it."""
    if variance is None:
        variance = "fixed_large" if said is None else "learned_range"
    if variance != "learned_range":
        return torch.tensor(math.log(small if variance == "fixed_small" else large), dtype=torch.float64)
    if said is None:
        raise UserError("the network says no variance, so variance_type learned_range has none; choose fixed_large")
    share = (said.double() + 1) / 2
    return share * math.log(large) + (1 - share) * math.log(small)


def _prior(x0: Tensor, level: Level) -> Tensor:
    """KL of q(x_T | x_0) and N(0, alpha^2 + sigma^2), which is 1 where variance is preserved: (B,)."""
    alpha, sigma = level.floats()
    whole = alpha**2 + sigma**2
    each = 0.5 * (math.log(whole / sigma**2) - 1 + (sigma**2 + alpha**2 * x0.square()) / whole)
    return each.flatten(1).sum(1)


def _as_bytes(x0: Tensor) -> Tensor:
    """The bytes that x0 holds, in [-1, 1], float64; half precision keeps them within a quarter of their distance."""
    places = (x0.double() + 1) * (BINS - 1) / 2
    whole = places.round()
    if (places - whole).abs().max() > 0.3 or whole.min() < 0 or whole.max() > BINS - 1:
        raise ValueError("x0 holds numbers that are no bytes in [-1, 1]; latents have a density")
    return whole * 2 / (BINS - 1) - 1
