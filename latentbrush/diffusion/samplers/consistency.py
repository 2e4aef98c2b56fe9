"""Samplers of distilled models, which say at every level where the way ends: LCM and TCD."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from latentbrush.diffusion.denoiser import Denoise, Denoised
from latentbrush.diffusion.level import Level, Step, with_level_after
from latentbrush.diffusion.samplers.contract import Noise, OnStep, keep

__all__ = ["Consistency", "lcm", "tcd"]


@dataclass(frozen=True)
class Consistency:
    """A `Denoise` with the boundary condition of consistency models: at t = 0 x0 is x itself.

    x0 becomes c_skip x + c_out x0 with c_skip = d^2 / (s^2 + d^2), c_out = s / sqrt(s^2 + d^2), s = `scaling` t and
    d = 0.5, the deviation of the data (Luo et al. 2023, "Latent Consistency Models", section 4.1; Song et al.
    2023, "Consistency Models", appendix C).
    """

    denoise: Denoise
    scaling: float = 10.0

    def __call__(self, x: Tensor, level: Level) -> Denoised:
        return self.bounded(self.denoise(x, level), x, level)

    def read(self, raw: Tensor, x: Tensor, level: Level) -> Denoised:
        return self.bounded(self.denoise.read(raw, x, level), x, level)

    def bounded(self, seen: Denoised, x: Tensor, level: Level) -> Denoised:
        """What was said of x, with that x0."""
        if level.t is None:
            raise ValueError("a finished level has no t, and no boundary condition")
        deviation, scaled = 0.5, self.scaling * float(level.t)
        square = scaled**2 + deviation**2
        return replace(seen, x0=(scaled / math.sqrt(square)) * seen.x0 + (deviation**2 / square) * x)


def lcm(
    denoise: Denoise,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    on_step: OnStep = keep,
    *,
    scaling: float = 10.0,
) -> Tensor:
    """Multistep consistency sampling (Luo et al. 2023, "Latent Consistency Models", Algorithm 3).

    Each step ends the way at once, then takes wholly fresh noise up to the next level. `scaling`: of t, in
    `Consistency`. Returns the finished x (B, c, h, w).
    """
    consistent = Consistency(denoise, scaling)
    for step, level in with_level_after(steps):
        seen = denoise(x, step.at)
        x0 = consistent.bounded(seen, x, step.at).x0
        x = x0 if step.next.sigma == 0 else step.next.mix(x0, noise())
        x = on_step(x, level, seen)
    return x


def tcd(
    denoise: Denoise,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    on_step: OnStep = keep,
) -> Tensor:
    """Strategic stochastic sampling (Zheng et al. 2024, "Trajectory Consistency Distillation", Algorithm 4).

    Each step goes down the trajectory to its `mid`, then noise leads up to `next`. Returns the finished x
    (B, c, h, w).
    """
    for step, level in with_level_after(steps):
        seen = denoise(x, step.at)
        low = step.next if step.mid is None else step.mid
        x = low.mix(seen.x0, seen.eps)
        (alpha, _), (alpha_low, _) = step.next.floats(), low.floats()
        if step.next.t is not None and alpha < alpha_low:
            forward = alpha / alpha_low
            x = forward * x + math.sqrt(1.0 - forward**2) * noise()
        x = on_step(x, level, seen)
    return x
