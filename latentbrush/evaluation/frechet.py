"""The Frechet distance between two sets of features (FID where they are Inception's): Heusel et al. 2017."""

from __future__ import annotations

import torch
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.evaluation.statistics import Moments

__all__ = ["frechet_distance", "symmetric_root"]


def frechet_distance(first: Moments, second: Moments) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), the squared 2-Wasserstein distance of two Gaussians.

    Heusel et al. 2017, equation 6; Dowson and Landau 1982. The trace of the root is the sum of the roots of the
    eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric and positive semidefinite, so that singular covariances
    (fewer pictures than numbers in a feature) need neither a complex root nor an offset. UserError for features of
    unlike widths.
    """
    if first.width != second.width:
        raise UserError(
            f"features of {first.width} and of {second.width} numbers have no distance; take both by one extractor"
        )
    root = symmetric_root(first.covariance)
    roots = torch.linalg.eigvalsh(root @ second.covariance @ root).clamp(min=0).sqrt().sum()
    covariance = first.covariance.trace() + second.covariance.trace() - 2 * roots
    return float((first.mean - second.mean).square().sum() + covariance)


def symmetric_root(covariance: Tensor) -> Tensor:
    """The symmetric root of a positive semidefinite matrix; eigenvalues that rounding made negative are 0."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
