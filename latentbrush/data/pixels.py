"""Pictures as bytes and as the numbers in [-1, 1] that networks see."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

__all__ = ["to_bytes", "to_image", "to_signed"]


def to_signed(pictures: Tensor) -> Tensor:
    """uint8 (..., H, W), 0 to 255 -> float32 in [-1, 1]."""
    return pictures.float() / 127.5 - 1.0


def to_bytes(pictures: Tensor) -> Tensor:
    """Floats (..., H, W), clamped to [-1, 1] -> uint8, rounded as diffusers' pipelines round."""
    unit = (pictures.float() / 2 + 0.5).clamp(0, 1)
    return (unit * 255).round().to(torch.uint8)


def to_image(pixels: Tensor) -> Image.Image:
    """(3, H, W), uint8 or floats in [-1, 1], on any device -> an RGB picture."""
    values = pixels if pixels.dtype == torch.uint8 else to_bytes(pixels)
    return Image.fromarray(values.permute(1, 2, 0).contiguous().cpu().numpy())
