"""Samplers: plain functions from noise to a picture. They see neither prompt, nor model, nor device.

Every one takes `(denoise, x, steps, noise, on_step, **options)`:
`x`: (B, c, h, w), unit noise times the plan's `start_scale`;
`steps`: of a `Plan`, as are the options;
`noise()`: a fresh unit Gaussian draw shaped like x, called only where the step's variance is not zero;
`on_step(x, level, denoised) -> x`: called after every network call with the new x, the level at which x is
read next (the finished level at the end) and what the network said; what it returns goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor

from latentbrush.diffusion.denoiser import Denoise, Denoised
from latentbrush.diffusion.level import Level, Step, with_level_after

__all__ = ["Noise", "OnStep", "Variance", "ddim", "ddpm", "dpmpp_2m", "heun", "keep", "posterior_variance"]

Noise = Callable[[], Tensor]
OnStep = Callable[[Tensor, Level, Denoised], Tensor]
Variance = Literal["fixed_small", "fixed_large"]
"""Of a DDPM step's noise: the posterior's, or that of the forward step (DDPM, section 3.2)."""


def keep(x: Tensor, level: Level, denoised: Denoised) -> Tensor:
    """The `on_step` that changes nothing."""
    return x


def ddim(
    denoise: Denoise,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    on_step: OnStep = keep,
    *,
    eta: float = 0.0,
) -> Tensor:
    """DDIM (Song et al. 2021, "Denoising Diffusion Implicit Models", eq. 12 and 16) in the plane.

    `eta`: 0 is deterministic, 1 draws with the variance of the DDPM posterior. On a variance-exploding
    plan (alpha = 1) this is Euler's method, with eta 1 Euler ancestral. Returns the finished x (B, c, h, w).
    """
    for step, level in with_level_after(steps):
        seen = denoise(x, step.at)
        alpha, sigma = step.next.floats()
        variance = eta**2 * posterior_variance(step)
        x = alpha * seen.x0 + math.sqrt(sigma**2 - variance) * seen.eps
        if variance > 0:
            x = x + math.sqrt(variance) * noise()
        x = on_step(x, level, seen)
    return x


def posterior_variance(step: Step) -> float:
    """Variance of q(x_next | x_now, x0) for any (alpha, sigma): DDIM, eq. 16 squared, at eta 1.

    Written as a part of sigma_next^2, it never rounds above it; from alpha = 0 it is all of it.
    """
    (alpha, sigma), (alpha_next, sigma_next) = step.now.floats(), step.next.floats()
    kept = alpha * sigma_next / (sigma * alpha_next)
    return max(sigma_next**2 * (1.0 - kept**2), 0.0)


def ddpm(
    denoise: Denoise,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    on_step: OnStep = keep,
    *,
    variance: Variance = "fixed_small",
) -> Tensor:
    """Ancestral sampling (DDPM, Ho et al. 2020, eq. 6, 7 and Algorithm 2) in the plane.

    Unlike DDIM with eta 1 it takes the posterior's mean from x0 and x, so that a clipped x0 counts fully,
    and may draw with more than the posterior's variance. Nothing is drawn for the finished picture, for it
    would stay: diffusers' scheduler does so where the last time is not 0. Returns the finished x (B, c, h, w).
    """
    for step, level in with_level_after(steps):
        seen = denoise(x, step.at)
        (alpha, sigma), (alpha_next, sigma_next) = step.now.floats(), step.next.floats()
        small = posterior_variance(step)
        forward = alpha / alpha_next  # x_now = forward * x_next + noise of variance `large`
        large = sigma**2 - (forward * sigma_next) ** 2
        share = large / sigma**2  # how far x0 decides the mean, against x
        x = alpha_next * share * seen.x0 + forward * (sigma_next / sigma) ** 2 * x
        if step.next.t is not None:
            x = x + math.sqrt(small if variance == "fixed_small" else large) * noise()
        x = on_step(x, level, seen)
    return x


def heun(
    denoise: Denoise,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    on_step: OnStep = keep,
) -> Tensor:
    """Heun's method (Karras et al. 2022, Algorithm 1), deterministic, in x / alpha over sigma / alpha.

    Each step is Euler's, then once more with the mean of the slopes at its two ends; a step to sigma = 0 or
    to a finished level is Euler's. `on_step` sees both: what it returns for the first is where the second
    slope is taken. Asks the network twice a step; no alpha may be 0. Returns the finished x (B, c, h, w).
    """
    for step, level in with_level_after(steps):
        (alpha, sigma), (alpha_next, sigma_next) = step.now.floats(), step.next.floats()
        start, width = x / alpha, sigma_next / alpha_next - sigma / alpha
        seen = denoise(x, step.at)
        slope = (x - alpha * seen.x0) / sigma  # eps, but of a clipped x0
        x = on_step(alpha_next * (start + width * slope), step.next, seen)
        if sigma_next > 0 and step.next.t is not None:
            seen = denoise(x, step.next)
            slope = (slope + (x - alpha_next * seen.x0) / sigma_next) / 2
            x = on_step(alpha_next * (start + width * slope), level, seen)
    return x


def dpmpp_2m(
    denoise: Denoise,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    on_step: OnStep = keep,
    *,
    order: int = 2,
    euler_last: bool = True,
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, "DPM-Solver++", Algorithm 2, midpoint), deterministic.

    `order`: 2, or 1 for first-order steps throughout, which are DDIM's. `euler_last`: the last step is of
    first order, which it must be where it ends at sigma = 0. The first step always is. Returns the
    finished x (B, c, h, w).
    """
    before: tuple[Level, Tensor] | None = None  # the last evaluation: its level and x0
    for i, (step, level) in enumerate(with_level_after(steps)):
        (alpha, sigma), (alpha_next, sigma_next) = step.now.floats(), step.next.floats()
        seen = denoise(x, step.at)
        x0 = seen.x0
        first_order = order == 1 or (euler_last and i == len(steps) - 1)
        if before is not None and not first_order:
            x0 = x0 + _carry(before[0], step) * (x0 - before[1])  # D_i: x0 at the step's middle
        decay = alpha * sigma_next / (sigma * alpha_next)  # e^-h, h the step in log(alpha / sigma)
        x = (sigma_next / sigma) * x - (alpha_next * (decay - 1.0)) * x0
        before = step.now, seen.x0
        x = on_step(x, level, seen)
    return x


def _carry(before: Level, step: Step) -> float:
    """1 / (2 r_i) = h_i / (2 h_(i-1)), h the steps in log(alpha / sigma).

    Zero after an infinite step, as from alpha = 0, and where both evaluations lie at one level: neither
    says how x0 changes.
    """
    now = _log_ratio(step.now)
    h, h_before = _log_ratio(step.next) - now, now - _log_ratio(before)
    return 0.5 * h / h_before if h_before > 0 else 0.0


def _log_ratio(level: Level) -> float:
    """lambda = log(alpha / sigma), minus infinity at alpha = 0."""
    alpha, sigma = level.floats()
    return math.log(alpha / sigma) if alpha > 0 else -math.inf
