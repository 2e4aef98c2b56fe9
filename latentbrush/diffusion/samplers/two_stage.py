"""Samplers that ask twice a step: Heun, DPM2 and DPM-Solver++ with a midpoint, some with fresh noise.

A step whose `mid` is None is a plain first-order step: towards sigma = 0, where log(sigma) has no middle, and
away from pure noise, where the slope at the far end would be drawn out over the whole way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from latentbrush.diffusion.denoiser import Denoise
from latentbrush.diffusion.level import Level, Step, with_level_after
from latentbrush.diffusion.samplers.contract import Noise, OnStep, ancestral, approach, keep

__all__ = ["dpm2", "dpmpp_2s_ancestral", "dpmpp_sde", "heun"]


def heun(
    denoise: Denoise,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    on_step: OnStep = keep,
) -> Tensor:
    """Heun's method (Karras et al. 2022, Algorithm 1), deterministic, in x / alpha over sigma / alpha.

    Each step is Euler's, then, where its `mid` is its `next`, once more with the mean of the slopes at its two
    ends. `on_step` sees both: what it returns for the first is where the second slope is taken. No alpha may
    be 0. Returns the finished x (B, c, h, w).
    """
    for step, level in with_level_after(steps):
        (alpha, sigma), (alpha_next, sigma_next) = step.now.floats(), step.next.floats()
        start, width = x / alpha, sigma_next / alpha_next - sigma / alpha
        seen = denoise(x, step.at)
        slope = (x - alpha * seen.x0) / sigma  # eps, but of a clipped x0
        x = on_step(alpha_next * (start + width * slope), level if step.mid is None else step.mid, seen)
        if step.mid is not None:
            seen = denoise(x, step.mid)
            slope = (slope + (x - alpha_next * seen.x0) / sigma_next) / 2
            x = on_step(alpha_next * (start + width * slope), level, seen)
    return x


def dpm2(
    denoise: Denoise,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    on_step: OnStep = keep,
    *,
    eta: float = 0.0,
) -> Tensor:
    """DPM2, the midpoint method in x / alpha over sigma / alpha (Karras et al. 2022, appendix C.1, with alpha = 1/2
    in log(sigma); DPM-Solver-2 of Lu et al. 2022).

    `eta` 1 is DPM2 ancestral: the step goes to the level of DDIM's eta, then noise is added. The plan's `mid`
    is the middle of that way. No alpha may be 0. Returns the finished x (B, c, h, w).
    """
    for step, level in with_level_after(steps):
        seen = denoise(x, step.at)
        down, up = ancestral(step.now, step.next) if eta else (step.next, 0.0)
        if step.mid is None:
            x = _along(x, seen.eps, step.now, down)
        else:
            start = x
            x = on_step(_along(x, seen.eps, step.now, step.mid), step.mid, seen)
            seen = denoise(x, step.mid)
            x = _along(start, seen.eps, step.now, down)
        if up > 0:
            x = x + up * noise()
        x = on_step(x, level, seen)
    return x


def dpmpp_2s_ancestral(
    denoise: Denoise,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    on_step: OnStep = keep,
) -> Tensor:
    """DPM-Solver++(2S) ancestral: Lu et al. 2022, "DPM-Solver++", Algorithm 1 with r = 1/2 down to the level of DDIM
    with eta 1, then noise (k-diffusion's sampler of this name). The plan's `mid` is the middle of that way in
    log(sigma / alpha). Returns the finished x (B, c, h, w).
    """
    for step, level in with_level_after(steps):
        seen = denoise(x, step.at)
        down, up = ancestral(step.now, step.next)
        start = x
        if step.mid is not None:
            x = on_step(approach(x, seen.x0, step.now, step.mid), step.mid, seen)
            seen = denoise(x, step.mid)
        x = approach(start, seen.x0, step.now, down)
        if up > 0:
            x = x + up * noise()
        x = on_step(x, level, seen)
    return x


def dpmpp_sde(
    denoise: Denoise,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    on_step: OnStep = keep,
) -> Tensor:
    """DPM-Solver++ for the SDE with r = 1/2 (k-diffusion's sampler of this name; DPMSolverSDEScheduler).

    Both halves of a step see one Brownian motion over sigma / alpha: the noise of the whole step is that of its
    first half and a further draw. (The references take it from a tree; a step's own two draws are distributed
    equally, and independent of the batch.) Returns the finished x (B, c, h, w).
    """
    for step, level in with_level_after(steps):
        seen = denoise(x, step.at)
        start, motion = x, None
        if step.mid is not None:
            down, up = ancestral(step.now, step.mid)
            drawn = noise()
            motion = math.sqrt(_ratio(step.now) - _ratio(step.mid)) * drawn
            x = approach(x, seen.x0, step.now, down) + up * drawn
            x = on_step(x, step.mid, seen)
            seen = denoise(x, step.mid)
        down, up = ancestral(step.now, step.next)
        x = approach(start, seen.x0, step.now, down)
        if up > 0:
            if motion is None or step.mid is None:
                drawn = noise()
            else:
                motion = motion + math.sqrt(_ratio(step.mid) - _ratio(step.next)) * noise()
                drawn = motion / math.sqrt(_ratio(step.now) - _ratio(step.next))
            x = x + up * drawn
        x = on_step(x, level, seen)
    return x


def _along(x: Tensor, slope: Tensor, now: Level, after: Level) -> Tensor:
    """Euler's step in x / alpha over sigma / alpha with the given slope."""
    (alpha, sigma), (alpha_next, sigma_next) = now.floats(), after.floats()
    return alpha_next * (x / alpha + (sigma_next / alpha_next - sigma / alpha) * slope)


def _ratio(level: Level) -> float:
    alpha, sigma = level.floats()
    return sigma / alpha
