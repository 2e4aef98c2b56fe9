"""How far a picture is from its original to the eye of CLIP's image tower, as a loss."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from latentbrush.devices import CPU
from latentbrush.formats import load_clip, resolve_clip
from latentbrush.origin import sha256_of

__all__ = ["CLIPDistance"]

EPS = 1e-8
"""Beside a token's squared length, so that it has a gradient at 0."""


class CLIPDistance:
    """Pictures and originals, (B, 3, H, W) in [-1, 1] -> (B,), 0 for the same; gradients flow to both.

    Equation 1 of LPIPS (Zhang et al. 2018) without learned weights, over the tokens before the tower's first layer
    and behind each. UserError for what `load_clip` refuses.
    """

    def __init__(self, name: str, device: torch.device = CPU) -> None:
        parts, path = load_clip(name), resolve_clip(name)
        self.tower = parts.network.vision_model.to(device).requires_grad_(False)
        # From (p / 255 - mean) / std to the same of signed pictures.
        self.mean = [2 * mean - 1 for mean in parts.pixels.mean]
        self.std = [2 * std for std in parts.pixels.std]
        self.digest = f"sha256:{sha256_of(path / 'model.safetensors')}"

    def __call__(self, pictures: Tensor, originals: Tensor) -> Tensor:
        total = pictures.new_zeros(len(pictures))
        for first, second in zip(self._tokens(pictures), self._tokens(originals), strict=True):
            a, b = (x / (x.square().sum(-1, keepdim=True) + EPS).sqrt() for x in (first, second))
            total = total + (a - b).square().sum(-1).mean(1)
        return total

    def _tokens(self, pictures: Tensor) -> Iterator[Tensor]:
        side = self.tower.config.image_size
        if pictures.shape[-2:] != (side, side):
            pictures = F.interpolate(pictures, (side, side), mode="bicubic", antialias=True, align_corners=False)
        mean, std = (pictures.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        x = self.tower.pre_layernorm(self.tower.embeddings((pictures - mean) / std))
        yield x
        for layer in self.tower.layers:
            x = layer(x)
            yield x
