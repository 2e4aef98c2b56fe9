"""Mean and covariance of features, gathered batch by batch: what a Frechet distance knows of a set of pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentbrush.errors import UserError

__all__ = ["Moments", "RunningMoments", "as_finite", "moments"]


@dataclass(frozen=True)
class Moments:
    """Of `count` features: their mean (d,) and unbiased covariance (d, d), float64."""

    mean: Tensor
    covariance: Tensor
    count: int

    @property
    def width(self) -> int:
        return len(self.mean)


class RunningMoments:
    """Takes features in batches of any size; memory does not grow with their number.

    Sums of squares about a running mean are merged pairwise (Chan, Golub and LeVeque 1983, equation 2.1), in float64,
    so that the order and size of the batches move the result by roundings alone, also where the mean is large beside
    the spread.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    @property
    def width(self) -> int:
        """Of the features so far; 0 before the first."""
        return 0 if self._mean is None else len(self._mean)

    def add(self, features: Tensor) -> RunningMoments:
        """Features (n, d), any floating type. Returns itself. UserError for what is not finite or of another width."""
        checked = as_finite(features)
        if not len(checked):
            return self
        mean = checked.mean(0)
        centred = checked - mean
        return self._merge(len(checked), mean, centred.T @ centred)

    def merge(self, other: RunningMoments) -> RunningMoments:
        """All that `other` has been given, too: two processes' halves become one. Returns itself."""
        if other._mean is None or other._squares is None:
            return self
        return self._merge(other.count, other._mean, other._squares)

    def _merge(self, count: int, mean: Tensor, squares: Tensor) -> RunningMoments:
        if self._mean is None or self._squares is None:
            self.count, self._mean, self._squares = count, mean, squares
            return self
        if len(mean) != len(self._mean):
            raise UserError(
                f"features of {len(mean)} numbers follow features of {len(self._mean)}; take all by one extractor"
            )
        total, step = self.count + count, mean - self._mean
        self._squares = self._squares + squares + torch.outer(step, step) * (self.count * count / total)
        self._mean, self.count = self._mean + step * (count / total), total
        return self

    def finish(self) -> Moments:
        """UserError for fewer than two features: one has no covariance."""
        if self._mean is None or self._squares is None or self.count < 2:
            raise UserError(f"{self.count} pictures have no covariance; give at least 2")
        return Moments(self._mean, self._squares / (self.count - 1), self.count)


def moments(batches: Iterable[Tensor]) -> Moments:
    """Of features (n, d) that come in batches."""
    running = RunningMoments()
    for batch in batches:
        running.add(batch)
    return running.finish()


def as_finite(features: Tensor) -> Tensor:
    """(n, d) features as float64. UserError, with their number, for pictures whose features are not finite."""
    if features.ndim != 2:
        raise ValueError(f"features {tuple(features.shape)} must be (n, d)")
    values = features.detach().double()
    bad = int((~values.isfinite()).any(1).sum())
    if bad:
        raise UserError(
            f"{bad} of {len(values)} pictures have features that are not finite; look at the pictures, or take the "
            "extractor in float32"
        )
    return values
