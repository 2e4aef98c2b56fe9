"""First-order samplers, which ask once a step and remember nothing: DDIM (with Euler) and DDPM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from latentbrush.diffusion.denoiser import Denoise
from latentbrush.diffusion.level import Step, with_level_after
from latentbrush.diffusion.samplers.contract import Noise, OnStep, keep, posterior_variance
from latentbrush.errors import UserError

__all__ = ["Variance", "ddim", "ddpm"]

Variance = Literal["fixed_small", "fixed_large", "learned_range"]
"""Of a DDPM step's noise: the posterior's, that of the forward step (DDPM, section 3.2), or what the network
says between the two (improved DDPM)."""


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
    UserError where the variance is to be the network's, and it says none.
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
            fixed = small if variance == "fixed_small" else large
            learned = variance == "learned_range"
            x = x + (_between(small, large, seen.log_var) if learned else math.sqrt(fixed)) * noise()
        x = on_step(x, level, seen)
    return x


def _between(small: float, large: float, said: Tensor | None) -> Tensor:
    """The learned standard deviation (Nichol & Dhariwal 2021, "Improved DDPM", eq. 15), (B, c, h, w).

    `said`: in about [-1, 1], where the log of the variance lies between its least and its greatest.
    """
    if said is None:
        raise UserError("the network says no variance, so variance_type learned_range has none; choose fixed_small")
    share = (said + 1) / 2
    # The published least variance, where the posterior has none.
    return (0.5 * (share * math.log(large) + (1 - share) * math.log(max(small, 1e-20)))).exp()
