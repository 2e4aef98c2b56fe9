"""How much of a codebook is in use: a collapsed one wastes what its size promises."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CodebookUsage", "codebook_usage"]


@dataclass(frozen=True)
class CodebookUsage:
    """`perplexity`: 2^(entropy in bits) of how often entries are used, from 1 to the codebook's size, which it has
    where all are used alike; `share`: of the entries, those used at all. Neither exceeds what as many cells as were
    counted can reach."""

    perplexity: float
    share: float


def codebook_usage(indices: Tensor, size: int) -> CodebookUsage:
    """Of the indices (any shape, at least one) that a codebook of `size` entries gave. ValueError for others."""
    flat = indices.flatten()
    if not len(flat) or int(flat.min()) < 0 or int(flat.max()) >= size:
        raise ValueError(f"indices of shape {tuple(indices.shape)} must be some, each from 0 to {size - 1}")
    counts = torch.bincount(flat, minlength=size).double()
    shares = counts[counts > 0] / len(flat)
    return CodebookUsage(
        perplexity=float((-shares * shares.log()).sum().exp()), share=float((counts > 0).double().mean())
    )
