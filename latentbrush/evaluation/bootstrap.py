"""How sure a figure is that was measured on N pictures: by resampling them (Efron 1979), or by how each one moves it.

An interval says where the figure's expectation over sets of N pictures lies. It is no statement about other N: the
Frechet distance is biased upwards by as much as N is small (Chong and Forsyth 2020), and so is its interval.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.evaluation.frechet import frechet_distance, symmetric_root
from latentbrush.evaluation.statistics import Moments, as_finite, moments

__all__ = [
    "Interval",
    "deviation_of",
    "frechet_difference",
    "frechet_influences",
    "frechet_interval",
    "mean_interval",
    "resampled_counts",
]

LEVEL = 0.95
LEAST_RESAMPLES = 40
"""Fewer have no 2.5% to cut off."""
AT_ONCE = 4096


@dataclass(frozen=True)
class Interval:
    """From `low` to `high` lies the expectation in `level` of all cases; `estimate`: the figure of all pictures.

    `method`: 'percentile' or 'jackknife' (0 resamples); `seed`: of the resamples.
    """

    estimate: float
    low: float
    high: float
    method: str
    resamples: int = 0
    seed: int = 0
    level: float = LEVEL

    @property
    def excludes_zero(self) -> bool:
        """Of a difference: is it told from none?"""
        return self.low > 0 or self.high < 0


def mean_interval(
    values: Tensor,
    *,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Of the mean of a figure that each picture has by itself, (n,): PSNR, SSIM, LPIPS, CLIP score. By percentiles.

    `clusters`: which of n pictures belong together, such as paintings of one caption; they are drawn whole, for they
    are alike, and count for less than as many strangers. UserError for fewer than 2 pictures or clusters, fewer than
    40 resamples, a level that is none, and values that are not finite (PSNR of equal pictures).
    """
    if values.ndim != 1 or (clusters is not None and len(clusters) != len(values)):
        raise ValueError(f"values {tuple(values.shape)} must be (n,), and so many clusters")
    names = {name: i for i, name in enumerate(dict.fromkeys(range(len(values)) if clusters is None else clusters))}
    _check(len(names), resamples, level, "pictures" if clusters is None else "clusters of pictures")
    numbers = values.detach().double().cpu()
    if clusters is None:
        sums, sizes = numbers, torch.ones_like(numbers)
    else:
        place = torch.tensor([names[name] for name in clusters])
        empty = torch.zeros(len(names), dtype=torch.float64)
        sums, sizes = (empty.index_add(0, place, x) for x in (numbers, torch.ones_like(numbers)))
    if not numbers.isfinite().all():
        raise UserError("the figure is not finite for all pictures, so that it has no interval; look at them")
    means = [float(times @ sums / (times @ sizes)) for times in resampled_counts(len(names), resamples, seed)]
    quantiles = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.tensor(means, dtype=torch.float64).quantile(quantiles).tolist()
    return Interval(float(numbers.mean()), low, high, "percentile", resamples, seed, level)


def frechet_influences(features: Tensor, reference: Moments) -> tuple[float, Tensor]:
    """The Frechet distance of features (n, d) to fixed statistics, and how it answers to the weight of each picture.

    These influences (n,), float64, are its derivative by each picture's share of the set, times n; they have a closed
    form. With G = I - S_r^(1/2) (S_r^(1/2) S S_r^(1/2))^(-1/2) S_r^(1/2), the distance's gradient by the covariance S,
    a feature f moves it by 2 (f - m).(m - m_r) + (f - m)' G (f - m), less the mean of that: no picture is left out, and
    nothing decomposed anew. UserError as `frechet_distance`, and for fewer than 2 pictures.
    """
    values = as_finite(features).cpu()
    own = moments([values])
    distance = frechet_distance(own, reference)
    # Sums of squares are divided by n - 1.
    gradient = _gradient(own.covariance, reference.covariance) * (len(values) / (len(values) - 1))
    step = 2 * (own.mean - reference.mean)
    parts = []
    for part in torch.split(values, AT_ONCE):
        centred = part - own.mean
        parts.append(centred @ step + ((centred @ gradient) * centred).sum(1))
    moved = torch.cat(parts)
    return distance, moved - moved.mean()


def deviation_of(influences: Tensor) -> float:
    """The standard deviation of a figure by the influences (n,) on it: the infinitesimal jackknife (Jaeckel 1972)."""
    return float((influences - influences.mean()).norm()) / len(influences)


def frechet_interval(features: Tensor, reference: Moments, *, level: float = LEVEL) -> Interval:
    """Of the Frechet distance of features (n, d) to fixed statistics, by the jackknife of its influences.

    Resampling, which costs a decomposition each time, overstates the spread where n is not many times d, for
    duplicates make the covariance poorer: at n = 3 d by some 80%, against a third here (the tests measure it), while
    its percentiles miss the expectation altogether. Where both sets are alike the interval is too wide by more.
    UserError as `frechet_influences`, and for fewer than 2 pictures.
    """
    _check(len(features), LEAST_RESAMPLES, level)
    distance, influences = frechet_influences(features, reference)
    half = NormalDist().inv_cdf((1 + level) / 2) * deviation_of(influences)
    return Interval(distance, max(0.0, distance - half), distance + half, "jackknife", level=level)


def frechet_difference(first: tuple[float, Tensor], second: tuple[float, Tensor]) -> Interval:
    """Of the second Frechet distance less the first, each with its influences, of sets whose pictures are pairs.

    What makes a picture of both sets easy or hard moves both distances alike, and drops out. At n = 2 d the interval
    is still too wide by some 15 to 20% (the tests measure it). ValueError for other numbers of pictures.
    """
    if first[1].shape != second[1].shape:
        raise ValueError(f"{len(first[1])} and {len(second[1])} pictures are no pairs")
    value = second[0] - first[0]
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * deviation_of(second[1] - first[1])
    return Interval(value, value - half, value + half, "jackknife")


def resampled_counts(count: int, resamples: int, seed: int) -> Iterator[Tensor]:
    """How often each of `count` pictures is among as many drawn with replacement: `resamples` of (count,) float64."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(resamples):
        drawn = torch.randint(count, (count,), generator=generator)
        yield torch.bincount(drawn, minlength=count).double()


def _gradient(own: Tensor, reference: Tensor) -> Tensor:
    """Of tr(S + S_r - 2 (S S_r)^(1/2)) by S; along directions that S has not, it is left at 1."""
    root = symmetric_root(reference)
    values, vectors = torch.linalg.eigh(root @ own @ root)
    kept = values > values.max() * len(values) * torch.finfo(values.dtype).eps
    inverse = torch.where(kept, values.clamp(min=torch.finfo(values.dtype).tiny).rsqrt(), 0.0)
    inner = (vectors * inverse) @ vectors.T
    whole: Tensor = torch.eye(len(own), dtype=own.dtype) - root @ inner @ root
    return whole


def _check(count: int, resamples: int, level: float, what: str = "pictures") -> None:
    if count < 2:
        raise UserError(f"{count} {what} have no interval; give at least 2")
    if resamples < LEAST_RESAMPLES:
        raise UserError(f"{resamples} resamples are asked for; choose at least {LEAST_RESAMPLES}")
    if not 0 < level < 1:
        raise UserError(f"the interval's level is {level}; choose one between 0 and 1, such as 0.95")
