"""Pictures brought to the side that a network sees; which way is part of every figure (Parmar et al. 2022)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

__all__ = ["ResizeFilter", "resized"]

ResizeFilter = Literal["bicubic", "bilinear"]


def resized(pictures: Tensor, side: int, how: ResizeFilter = "bicubic") -> Tensor:
    """uint8 (B, C, H, W) -> uint8 (B, C, side, side), antialiased, a batch at once; as it is where it has the size.

    Filters and rounding are Pillow's, from which pictures differ by 1 of 255 at the most. What is not square is
    squeezed.
    """
    if pictures.shape[-2:] == (side, side):
        return pictures
    # torch resizes bytes as Pillow does, rounding and clipping between the passes, but on the CPU only.
    smaller = F.interpolate(pictures.cpu(), (side, side), mode=how, antialias=True, align_corners=False)
    return smaller.to(pictures.device)
