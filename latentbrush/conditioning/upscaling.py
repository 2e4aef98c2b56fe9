"""A small picture as the condition of a larger one: noised by a level of its own, of which the network is told.

Noise takes away what only this small picture has, so that the network learns to enlarge those of other origins, too
(noise conditioning augmentation, Ho et al. 2022, "Cascaded Diffusion Models", section 4.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentbrush.diffusion import Schedule
from latentbrush.errors import UserError

__all__ = ["Augmentation", "SmallPicture"]

UPSCALER_SCHEDULE = Schedule(beta_start=0.0001, beta_end=0.02)
"""Of Stable Diffusion's x4 upscaler: that of its latents and that of its small pictures."""


@dataclass(frozen=True)
class Augmentation:
    """How an upscaler's small pictures are noised: a `schedule` of their own, and the greatest level `most` of it.

    UserError for a level that the schedule has not.
    """

    schedule: Schedule = UPSCALER_SCHEDULE
    most: int = 350

    def __post_init__(self) -> None:
        last = self.schedule.num_train_timesteps - 1
        if not 0 <= self.most <= last:
            raise UserError(f"max_noise_level is {self.most}; choose 0 to {last}, the last level of its schedule")


@dataclass(frozen=True)
class SmallPicture:
    """A small picture and the noise it is to have. `pixels`: (1, 3, h, w) in [-1, 1]; `level`: 0 or more, of
    `schedule`."""

    pixels: Tensor
    level: int
    schedule: Schedule

    def channels(self, noise: Tensor) -> Tensor:
        """What the network reads beside the latents, (B, 3, h, w): the picture under unit Gaussian `noise` of that
        shape."""
        level = self.schedule.level(torch.tensor([self.level]), device=noise.device, dtype=noise.dtype)
        return level.mix(self.pixels.to(noise), noise)

    def labels(self, batch: int) -> Tensor:
        """The level as the network is told it, (batch,)."""
        return torch.full((batch,), self.level, device=self.pixels.device)
