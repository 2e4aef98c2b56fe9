"""The Frechet distance between two sets of features (FID where they are Inception's): Heusel et al. 2017."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.evaluation.statistics import Moments

__all__ = ["frechet_distance", "frechet_from", "symmetric_root"]


def frechet_distance(first: Moments, second: Moments) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), the squared 2-Wasserstein distance of two Gaussians.

    Heusel et al. 2017, equation 6; Dowson and Landau 1982. The trace of the root is the sum of the roots of the
    eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric and positive semidefinite, so that singular covariances
    (fewer pictures than numbers in a feature) need neither a complex root nor an offset. UserError for features of
    unlike widths.
    """
    return frechet_from(first)(second)


def frechet_from(first: Moments) -> Callable[[Moments], float]:
    """`frechet_distance` from one set to any number of others: the root of its covariance is taken once."""
    root = symmetric_root(first.covariance)

    def distance(second: Moments) -> float:
        if first.width != second.width:
            raise UserError(
                f"features of {first.width} and of {second.width} numbers have no distance; take both by one extractor"
            )
        eigenvalues = torch.linalg.eigvalsh(root @ second.covariance @ root)
        roots = eigenvalues.clamp(min=0).sqrt().sum()
        covariance = first.covariance.trace() + second.covariance.trace() - 2 * roots
        return float((first.mean - second.mean).square().sum() + covariance)

    return distance


def symmetric_root(covariance: Tensor) -> Tensor:
    """The symmetric root of a positive semidefinite matrix; eigenvalues that rounding made negative are 0."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
