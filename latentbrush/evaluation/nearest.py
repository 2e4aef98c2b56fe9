"""Which original is a painting nearest to?"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from latentbrush.data.pixels import to_bytes

__all__ = ["SHIFT", "identical_groups", "nearest_accuracy", "shifted_distances"]

SHIFT = 3
"""How many pixels to each side a painting may lie beside its place, at no cost."""
AT_ONCE = 1024
"""Originals compared at once, which bounds the memory: 25 MB at 32x32 pixels."""


def shifted_distances(painted: Tensor, originals: Tensor, shift: int = SHIFT) -> Tensor:
    """The squared pixel distance of every painting to every original, the least over small shifts: (B, N).

    `painted`: (B, 3, H, W) and `originals`: (N, 3, H, W), uint8. Each picture lies on an endless white plane.
    The painting is moved there by dx and dy, whole pixels with -shift <= dx, dy <= shift, and the squares of
    all differences on the plane are summed: nothing is cut off where a painting moves past the edge, nothing
    but white follows it on the other side, and the distance is the same from either picture. Returns float64
    that hold whole numbers, in units of (1/255)^2, exactly; so no rounding can swap near twins. ValueError
    for unlike sizes.
    """
    if painted.shape[1:] != originals.shape[1:]:
        raise ValueError(f"paintings {tuple(painted.shape)} and originals {tuple(originals.shape)} differ in size")
    # Ink, what is missing from white, is 0 outside both pictures. Therefore their norms do not change with the
    # shift, and |a - b|^2 = |a|^2 - 2 <a, b> + |b|^2 leaves one matrix product a shift. Its sums of products of
    # bytes stay far below 2^53 (not below float32's 2^24).
    ink = 255.0 - painted.double()
    margins = F.pad(ink, (shift,) * 4)
    parts = [_distances(ink, margins, 255.0 - part.double(), shift) for part in torch.split(originals, AT_ONCE)]
    return torch.cat(parts, dim=1)


def _distances(ink: Tensor, margins: Tensor, original: Tensor, shift: int) -> Tensor:
    height, width = ink.shape[-2:]
    columns = original.flatten(1).T  # (3HW, N)
    common = ink.new_zeros(len(ink), len(original))  # no product of inks is less
    for top in range(2 * shift + 1):
        for left in range(2 * shift + 1):
            moved = margins[..., top : top + height, left : left + width].flatten(1)
            torch.maximum(common, moved @ columns, out=common)
    return _norms(ink)[:, None] - 2 * common + _norms(original)


def _norms(ink: Tensor) -> Tensor:
    return ink.square().flatten(1).sum(1)


def identical_groups(pictures: Tensor) -> Tensor:
    """For each of (N, C, H, W) uint8 the number of its group of identical pictures: (N,), 0 to G - 1 as met."""
    groups: dict[bytes, int] = {}
    return torch.tensor([groups.setdefault(picture.numpy().tobytes(), len(groups)) for picture in pictures.cpu()])


def nearest_accuracy(painted: Tensor, originals: Tensor, wanted: Tensor, shift: int = SHIFT) -> float:
    """The share of pictures whose nearest original, by `shifted_distances`, is the wanted one.

    `painted`: (B, 3, H, W) in [-1, 1], compared as the bytes they would be saved as; `originals`: (N, 3, H, W)
    uint8; `wanted`: (B,) indices into them. Pixel-identical originals count as one. ValueError for unlike sizes.
    """
    if len(painted) != len(wanted):
        raise ValueError(f"{len(painted)} paintings and {len(wanted)} wanted originals differ in number")
    nearest = originals[shifted_distances(to_bytes(painted), originals, shift).argmin(1)]
    return float((nearest == originals[wanted]).flatten(1).all(1).float().mean())
