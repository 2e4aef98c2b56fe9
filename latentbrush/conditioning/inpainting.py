"""A mask over a picture: what a network trained for inpainting is told, and what keeps the rest for one that was not.

Trained networks read the mask and the latents of the picture without what it covers as further channels (LDM,
section 4.5), Stable Diffusion's in this order, LDM's own in the other, with -1 for 0 and black for grey. For others the
known part is put back after every step, under the noise of the level reached (RePaint, Lugmayr et al. 2022, eq. 8).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from latentbrush.diffusion import Denoised, Level, OnStep
from latentbrush.nn import Posterior

__all__ = ["Masked", "hidden", "keep_known", "latent_mask"]


@dataclass(frozen=True)
class Masked:
    """A masked picture in latents. `mask`: (1, 1, h, w), 1 where it is painted anew, else 0; `visible`: the
    posterior (1, c, h, w) of the picture with what `hidden` put under the mask. `ldm`: as LDM's model reads both."""

    mask: Tensor
    visible: Posterior
    ldm: bool = False

    def channels(self, noise: Tensor) -> Tensor:
        """(B, 1 + c, h, w): the mask and a draw of what is visible, by a unit Gaussian `noise` (B, c, h, w)."""
        latents = self.visible.at(noise.to(self.visible.mean)).to(noise)
        mask = self.mask.to(noise).expand(len(noise), -1, -1, -1)
        return torch.cat([latents, 2.0 * mask - 1.0] if self.ldm else [mask, latents], dim=1)


def hidden(pixels: Tensor, mask: Tensor, *, ldm: bool = False) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] with 0, middle grey, where `mask` (B, 1, H, W) is 1; black for `ldm`."""
    return pixels * (1.0 - mask) - mask if ldm else pixels * (1.0 - mask)


def latent_mask(mask: Tensor, factor: int) -> Tensor:
    """(B, 1, H, W) -> (B, 1, H/f, W/f): each cell as its upper left pixel, which is what models were trained with."""
    return F.interpolate(mask, size=(mask.shape[-2] // factor, mask.shape[-1] // factor))


def keep_known(mask: Tensor, known: Tensor, noise: Tensor, then: OnStep) -> OnStep:
    """An `on_step` that first puts `known` (B, c, h, w) back where `mask` (1, 1, h, w) is 0, then does `then`.

    `noise`: the unit Gaussian of the start, so that known and painted parts meet at every level.
    """
    mask = mask.to(known)

    def on_step(x: Tensor, level: Level, denoised: Denoised) -> Tensor:
        # The last level of some schedules still has noise; a finished picture has none.
        there = known if level.t is None else level.mix(known, noise)
        return then((1.0 - mask) * there + mask * x, level, denoised)

    return on_step
