"""Is the caption most similar to a picture its own, and the picture most similar to a caption?"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["retrieval_accuracy"]


def retrieval_accuracy(similarity: Tensor, same: Tensor | None = None) -> tuple[float, float]:
    """Top-1 retrieval (CLIP, section 3.1's zero-shot use): the shares found from text and from picture, in [0, 1].

    `similarity`: (N, N), row i the caption and column i the picture of pair i; higher is more alike, NaN
    is never right. `same`: (N, N) of truth values, true where caption i describes picture j as well as its
    own (equal captions, identical pictures); None for nowhere but on the diagonal. ValueError for other
    shapes.
    """
    if similarity.ndim != 2 or len(similarity) != similarity.shape[1] or not len(similarity):
        raise ValueError(f"similarity must be (N, N), N at least 1, not {tuple(similarity.shape)}")
    right = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    if same is not None:
        if same.shape != similarity.shape:
            raise ValueError(f"similarity {tuple(similarity.shape)} and same {tuple(same.shape)} differ in shape")
        right = right | same
    right = right & ~similarity.isnan()
    return _share(right, similarity, 1), _share(right, similarity, 0)


def _share(right: Tensor, similarity: Tensor, axis: int) -> float:
    return float(right.gather(axis, similarity.argmax(axis, keepdim=True)).float().mean())
