"""What every sampler takes beside its options, and what several of them are made of."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from latentbrush.diffusion.denoiser import Denoised
from latentbrush.diffusion.level import Level, Step

__all__ = ["Noise", "OnStep", "ancestral", "approach", "keep", "order_of", "posterior_variance"]

Noise = Callable[[], Tensor]
OnStep = Callable[[Tensor, Level, Denoised], Tensor]


def keep(x: Tensor, level: Level, denoised: Denoised) -> Tensor:
    """The `on_step` that changes nothing."""
    return x


def posterior_variance(step: Step) -> float:
    """Variance of q(x_next | x_now, x0) for any (alpha, sigma): DDIM, eq. 16 squared, at eta 1.

    Written as a part of sigma_next^2, it never rounds above it; from alpha = 0 it is all of it.
    """
    (alpha, sigma), (alpha_next, sigma_next) = step.now.floats(), step.next.floats()
    kept = alpha * sigma_next / (sigma * alpha_next)
    return max(sigma_next**2 * (1.0 - kept**2), 0.0)


def ancestral(now: Level, after: Level) -> tuple[Level, float]:
    """(the level down to which a deterministic step goes, the deviation of the noise that leads up again).

    Together they are a draw of the posterior q(x_after | x_now, x0) (DDIM, eq. 16 at eta 1).
    """
    alpha, sigma = after.floats()
    variance = posterior_variance(Step(now, after))
    return Level(alpha, math.sqrt(sigma**2 - variance)), math.sqrt(variance)


def approach(x: Tensor, x0: Tensor, now: Level, after: Level) -> Tensor:
    """x at `after` if x0 stays what it is on the way: the exact solution of the probability flow then.

    DPM-Solver++ (Lu et al. 2022), eq. 9 at first order, which is DDIM. Any alpha may be 0.
    """
    (alpha, sigma), (alpha_next, sigma_next) = now.floats(), after.floats()
    decay = alpha * sigma_next / (sigma * alpha_next)  # e^-h, h the step in log(alpha / sigma)
    return (sigma_next / sigma) * x - (alpha_next * (decay - 1.0)) * x0


def order_of(place: int, count: int, order: int, *, euler_last: bool, lower_order_final: bool) -> int:
    """The order of step `place` of `count`, as far as the plan says; what is known of the past may lower it.

    `euler_last`: the last step is of first order. `lower_order_final`: no step is of a higher order than
    steps are left, for an error of the last ones is not mended.
    """
    left = count - place
    return 1 if euler_last and left == 1 else min(order, left) if lower_order_final else order
