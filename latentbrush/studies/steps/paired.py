"""Fréchet distances of sets of pictures that were painted from the same captions and seeds, and what sets them apart.

The sets share what makes a picture easy or hard, so that their distances rise and fall together when other pictures
are drawn; resampling the same pictures in all of them leaves what differs (Efron and Tibshirani 1993, chapter 8). It
overstates the noise (see `frechet_interval`), so that the study of samplers takes `frechet_difference`; what is here
serves the study of compression, whose cells keep resampled distances and no features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentbrush.evaluation import Moments, moments
from latentbrush.evaluation.frechet import frechet_from
from latentbrush.evaluation.shares import Z

__all__ = ["Difference", "difference", "distances", "resamples"]


def resamples(count: int, tries: int, seed: int) -> Tensor:
    """(tries, count) whole numbers: which of `count` pictures each resampled set holds, the same for all sets."""
    return torch.randint(count, (tries, count), generator=torch.Generator().manual_seed(seed))


def distances(reference: Moments, features: Tensor, draws: Tensor) -> tuple[float, Tensor]:
    """The Fréchet distance of `features` (n, d) to the reference, and (tries,) those of the sets that `draws` names."""
    distance = frechet_from(reference)
    tries = [distance(moments([features[draw]])) for draw in draws]
    return distance(moments([features])), torch.tensor(tries, dtype=torch.float64)


class Difference:
    """Of two Fréchet distances, the second less the first, with its 95% interval.

    The interval is about the difference itself: resampled sets have pictures twice, so that all their distances are
    too large, but by the same.
    """

    def __init__(self, value: float, deviation: float) -> None:
        self.value, self.deviation = value, deviation

    @property
    def interval(self) -> tuple[float, float]:
        return self.value - Z * self.deviation, self.value + Z * self.deviation

    @property
    def is_told(self) -> bool:
        """Is 0 outside the interval?"""
        return abs(self.value) > Z * self.deviation


def difference(first: tuple[float, Tensor], second: tuple[float, Tensor]) -> Difference:
    """Of two results of `distances` by the same draws. ValueError for other numbers of them."""
    if first[1].shape != second[1].shape:
        raise ValueError(f"{len(first[1])} and {len(second[1])} resampled sets are no pairs")
    deviation = float((second[1] - first[1]).std()) if len(first[1]) > 1 else math.nan
    return Difference(second[0] - first[0], deviation)
