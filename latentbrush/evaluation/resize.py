"""Pictures brought to the side that a network sees; which way is part of every figure (Parmar et al. 2022)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["ResizeFilter", "cleanly_resized", "resized", "resized_to", "tensorflow_resized"]

ResizeFilter = Literal["bicubic", "bilinear"]


def resized(pictures: Tensor, side: int, how: ResizeFilter = "bicubic") -> Tensor:
    """uint8 (B, C, H, W) -> uint8 (B, C, side, side), antialiased, a batch at once; as it is where it has the size.

    Filters and rounding are Pillow's, from which pictures differ by 1 of 255 at the most, where it, too, goes across
    before it goes down: where sides shrink unequally, late versions do not, and may clip other overshoots. What is not
    square is squeezed.
    """
    return resized_to(pictures, (side, side), how)


def resized_to(pictures: Tensor, size: tuple[int, int], how: ResizeFilter = "bicubic") -> Tensor:
    """As `resized`, to a height and a width."""
    if pictures.shape[-2:] == size:
        return pictures
    # torch resizes bytes as Pillow does, rounding and clipping between the passes, but on the CPU only.
    smaller = F.interpolate(pictures.cpu(), size, mode=how, antialias=True, align_corners=False)
    return smaller.to(pictures.device)


def cleanly_resized(pictures: Tensor, side: int) -> Tensor:
    """uint8 (B, C, H, W) -> float32 (B, C, side, side) in [0, 255]: bicubic, antialiased, not rounded to bytes.

    clean-fid's own way (Parmar et al. 2022, section 3): Pillow's filter on numbers instead of bytes.
    """
    values = pictures.float()
    if pictures.shape[-2:] == (side, side):
        return values
    return F.interpolate(values, (side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 255)


def tensorflow_resized(pictures: Tensor, side: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 (B, C, H, W) -> `dtype` (B, C, side, side) in [0, 255]: TensorFlow 1's bilinear resize, which FID's graph
    begins with.

    Pixel i of the new picture is read at i * H / side, its corner and not its middle, which shifts what is made larger;
    and nothing is averaged where it is made smaller, which aliases. Both are part of every published FID.
    """
    values = pictures.to(dtype)
    for axis in (-1, -2):
        values = _between(values, axis, side)
    return values


def _between(values: Tensor, axis: int, side: int) -> Tensor:
    length = values.shape[axis]
    # TensorFlow's ratio is rounded to float32, which moves places by as much.
    ratio = torch.tensor(length / side, dtype=torch.float32, device=values.device)
    places = torch.arange(side, device=values.device, dtype=values.dtype) * ratio
    low = places.long().clamp(max=length - 1)
    weight = places - low
    left, right = (values.index_select(axis, i) for i in (low, (low + 1).clamp(max=length - 1)))
    return left + (right - left) * (weight if axis == -1 else weight[:, None])
