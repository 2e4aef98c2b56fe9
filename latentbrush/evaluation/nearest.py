"""Is a painting nearest to the original it was asked for?"""

from __future__ import annotations

import torch
from torch import Tensor

from latentbrush.data.pixels import to_signed

__all__ = ["nearest_accuracy"]


def nearest_accuracy(painted: Tensor, originals: Tensor, wanted: Tensor) -> float:
    """The share of pictures whose nearest original, by squared pixel distance, is the wanted one.

    `painted`: (B, 3, H, W) in [-1, 1]; `originals`: (N, 3, H, W) uint8; `wanted`: (B,) indices into them.
    Pixel-identical originals count as one. ValueError for unlike sizes.
    """
    if painted.shape[1:] != originals.shape[1:] or len(painted) != len(wanted):
        raise ValueError(
            f"paintings {tuple(painted.shape)}, originals {tuple(originals.shape)} and {len(wanted)} wanted differ"
        )
    # Without the matrix-product short cut, whose rounding could swap near twins.
    distances = torch.cdist(
        painted.float().clamp(-1, 1).flatten(1),
        to_signed(originals).flatten(1),
        compute_mode="donot_use_mm_for_euclid_dist",
    )  # (B, N)
    nearest = originals[distances.argmin(1)]
    return float((nearest == originals[wanted]).flatten(1).all(1).float().mean())
