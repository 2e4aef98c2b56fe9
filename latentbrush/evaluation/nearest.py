"""Is a painting nearest to the original it was asked for?"""

from __future__ import annotations

import torch
from torch import Tensor

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
    values = (painted.float().clamp(-1, 1) * 127.5 + 127.5).flatten(1)
    distances = torch.cdist(values, originals.float().flatten(1))  # (B, N)
    nearest = originals[distances.argmin(1)]
    return float((nearest == originals[wanted]).flatten(1).all(1).float().mean())
