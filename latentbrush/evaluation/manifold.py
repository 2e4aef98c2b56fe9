"""How much of the real pictures a model reaches, and how much of what it paints is real: by nearest neighbours."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.evaluation.statistics import as_finite

__all__ = ["Coverage", "Membership", "memberships", "precision_recall", "radii"]

AT_ONCE = 2048
"""Rows of a distance matrix held at once: 2048 x 50,000 float64 are 820 MB."""


@dataclass(frozen=True)
class Coverage:
    """`precision`, `recall`: Kynkaanniemi et al. 2019; `density` (may exceed 1), `coverage`: Naeem et al. 2020."""

    precision: float
    recall: float
    density: float
    coverage: float

    def to_json(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Membership:
    """Who lies in whose ball. Of m painted pictures: `within`, whether in some real one's, and `crowding`, in how many,
    over k; of n real ones: `reached`, whether some painted one is in theirs, and `recalled`, whether they are in some
    painted one's. float64, each (m,) or (n,)."""

    within: Tensor
    crowding: Tensor
    reached: Tensor
    recalled: Tensor

    def means(self) -> Coverage:
        within, recalled, crowding, reached = (
            float(x.mean()) for x in (self.within, self.recalled, self.crowding, self.reached)
        )
        return Coverage(precision=within, recall=recalled, density=crowding, coverage=reached)


def precision_recall(real: Tensor, painted: Tensor, k: int = 3) -> Coverage:
    """As `memberships`, on the whole."""
    return memberships(real, painted, k).means()


def memberships(real: Tensor, painted: Tensor, k: int = 3) -> Membership:
    """Of features (n, d) of real and (m, d) of painted pictures, with balls to the k-th nearest neighbour.

    Precision: the share of painted ones within the ball of some real one; recall: the reverse (Kynkaanniemi et al.,
    equation 2; k = 3 there, k = 5 in Naeem et al.). Density: in how many real balls a painted one lies, over k;
    coverage: the share of real balls with a painted one (Naeem et al., equations 2 and 3). A point on the sphere is in
    the ball. UserError unless both have more than k features of one width, all finite.
    """
    if real.ndim != 2 or painted.ndim != 2 or real.shape[1] != painted.shape[1]:
        raise UserError(
            f"features {tuple(real.shape)} and {tuple(painted.shape)} have no distance; take both by one extractor"
        )
    if k < 1 or min(len(real), len(painted)) <= k:
        raise UserError(
            f"{k} neighbours are asked for, but there are {len(real)} real and {len(painted)} painted pictures; choose "
            f"from 1 to {min(len(real), len(painted)) - 1}"
        )
    real, painted = as_finite(real).cpu(), as_finite(painted).cpu()
    real_radii, painted_radii = radii(real, k), radii(painted, k)
    crowding = []
    reached, recalled = (torch.zeros(len(real), dtype=torch.bool) for _ in range(2))
    for part, part_radii in zip(torch.split(painted, AT_ONCE), torch.split(painted_radii, AT_ONCE), strict=True):
        distances = torch.cdist(part, real)  # (b, n)
        inside = distances <= real_radii
        crowding.append(inside.sum(1))
        reached |= inside.any(0)
        recalled |= (distances <= part_radii[:, None]).any(0)
    crowded = torch.cat(crowding).double()
    return Membership((crowded > 0).double(), crowded / k, reached.double(), recalled.double())


def radii(features: Tensor, k: int) -> Tensor:
    """(n,) distances of each feature (n, d) to its k-th nearest other one, float64."""
    values = features.double()
    parts = [torch.cdist(part, values).kthvalue(k + 1, dim=1).values for part in torch.split(values, AT_ONCE)]
    return torch.cat(parts)
