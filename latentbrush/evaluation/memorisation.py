"""Are paintings nearer to the training pictures than new real pictures are? Memorised ones are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.evaluation.statistics import as_finite

__all__ = ["Memorisation", "Neighbours", "memorisation", "nearest_training", "rank_statistic"]

AT_ONCE = 64
"""Paintings whose neighbours are compared at once: 64 x 50 neighbours of 2048 numbers are 52 MB."""
NEIGHBOURS = 50
"""In the ratio of Carlini et al. 2023, section 5.1."""
LEAST = 8
"""Of either sample, from which on the rank statistic is near to normal (Mann and Whitney 1947)."""


@dataclass(frozen=True)
class Neighbours:
    """Of each of m pictures the k nearest training pictures, nearest first: `distances` (m, k) float64, `indices`."""

    distances: Tensor
    indices: Tensor

    @property
    def ratio(self) -> Tensor:
        """(m,) in [0, 1]: the nearest one's distance over the mean of all k; 0 where that is a copy.

        Carlini et al. 2023, section 5.1, without their factor: what lies below a half is far nearer to one training
        picture than to those around it. A simple picture is near to many, and its ratio stays near 1.
        """
        return self.distances[:, 0] / self.distances.mean(1).clamp(min=torch.finfo(torch.float64).tiny)


@dataclass(frozen=True)
class Memorisation:
    """`paintings`, `held_out`: their nearest training pictures; `threshold`: the distance below which a share `alpha`
    of the held-out pictures lies; `share`: of the paintings that lie below it; `z`: see `rank_statistic`."""

    paintings: Neighbours
    held_out: Neighbours
    alpha: float
    threshold: float
    share: float
    z: float


def memorisation(
    painted: Tensor, train: Tensor, held_out: Tensor, *, k: int = NEIGHBOURS, alpha: float = 0.05
) -> Memorisation:
    """Of features (m, d) of paintings, (n, d) of all training pictures and (h, d) of real ones never trained on.

    A model that paints new pictures has a `share` near `alpha` and a `z` near 0. UserError for fewer than k training
    pictures, 1 / alpha held-out ones or 8 of either sample, for unlike widths, and for what is not finite.
    """
    if not 0 < alpha < 1:
        raise UserError(f"alpha is {alpha}; choose a share between 0 and 1, such as 0.05")
    needed = max(LEAST, math.ceil(1 / alpha))
    if len(held_out) < needed:
        raise UserError(
            f"{len(held_out)} held-out pictures are too few for the quantile {alpha}; give at least {needed}"
        )
    if len(painted) < LEAST:
        raise UserError(f"{len(painted)} paintings are too few to compare; give at least {LEAST}")
    near, beside = nearest_training(painted, train, k), nearest_training(held_out, train, k)
    threshold = float(beside.distances[:, 0].quantile(alpha))
    return Memorisation(
        paintings=near,
        held_out=beside,
        alpha=alpha,
        threshold=threshold,
        share=float((near.distances[:, 0] < threshold).double().mean()),
        z=rank_statistic(near.distances[:, 0], beside.distances[:, 0]),
    )


def nearest_training(features: Tensor, train: Tensor, k: int = 1) -> Neighbours:
    """The k nearest of `train` (n, d) to each of `features` (m, d), by Euclidean distance; an exact copy is at 0.

    UserError for unlike widths, fewer than k training pictures, and for what is not finite.
    """
    if features.ndim != 2 or train.ndim != 2 or features.shape[1] != train.shape[1]:
        raise UserError(
            f"features {tuple(features.shape)} and {tuple(train.shape)} have no distance; take both by one extractor"
        )
    if not 1 <= k <= len(train):
        raise UserError(
            f"{k} neighbours are asked for, but there are {len(train)} training pictures; choose 1 to {len(train)}"
        )
    if not len(features):
        raise UserError("there are no pictures to find neighbours of; give at least 1")
    features, train = as_finite(features), as_finite(train)
    distances, indices = [], []
    for part in torch.split(features, AT_ONCE):
        chosen = torch.cdist(part, train).topk(k, dim=1, largest=False).indices
        # cdist subtracts squares, which leaves some 1e-8 between equal features; here differences are squared.
        exact, order = (train[chosen] - part[:, None]).norm(dim=2).sort(dim=1, stable=True)
        distances.append(exact)
        indices.append(chosen.gather(1, order))
    return Neighbours(torch.cat(distances), torch.cat(indices))


def rank_statistic(painted: Tensor, held_out: Tensor) -> float:
    """z of Mann and Whitney 1947 for two samples of distances to the training pictures, (m,) and (h,).

    The C_T test of Meehan, Chaudhuri and Dasgupta 2020 (section 4.1), of one cell: below -3, paintings are nearer to
    the training pictures than new real ones, so that it copies; above 3, they are further away. Ties count half, in
    the variance too.
    """
    m, h = len(painted), len(held_out)
    values = torch.cat([painted, held_out]).double()
    _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    ranks = (ends - (counts - 1) / 2)[place]  # ties share the mean of their ranks
    above = ranks[:m].sum() - m * (m + 1) / 2  # pairs in which the painting is the further one
    total, ties = m + h, counts.double()
    variance = m * h / 12 * (total + 1 - (ties**3 - ties).sum() / (total * (total - 1)))
    return float((above - m * h / 2) / variance.sqrt()) if variance > 0 else 0.0
