"""How sure a figure is that was measured on N pictures: by resampling them (Efron 1979), or by how each one moves it.

An interval says where the figure's expectation over sets of N pictures lies. It is no statement about other N: the
Frechet distance is biased upwards by as much as N is small (Chong and Forsyth 2020), and so is its interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import torch
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.evaluation.frechet import frechet_distance
from latentbrush.evaluation.statistics import Moments, as_finite

__all__ = [
    "RESAMPLES",
    "Centre",
    "Interval",
    "bootstrap_interval",
    "frechet_interval",
    "mean_interval",
    "resampled_counts",
    "weighted_moments",
]

RESAMPLES = 200
LEVEL = 0.95
LEAST_RESAMPLES = 40
"""Fewer have no 2.5% to cut off."""
AT_ONCE = 4096

Centre = Literal["percentile", "centred"]
"""Where the interval lies: the resampled figures' own quantiles, or those moved so that their mean is the estimate.

A resample holds some pictures several times and others not at all. A mean does not mind. What a lack of pictures
biases, a Frechet distance above all, is biased once more by it, so that the estimate itself may lie outside the
quantiles; moved back, they tell the spread alone."""


@dataclass(frozen=True)
class Interval:
    """From `low` to `high` lies the expectation in `level` of all cases; `estimate`: the figure of all pictures.

    `method`: 'percentile', 'centred', or 'jackknife' (0 resamples); `seed`: of the resamples.
    """

    estimate: float
    low: float
    high: float
    method: str
    resamples: int = 0
    seed: int = 0
    level: float = LEVEL

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def bootstrap_interval(
    statistic: Callable[[Tensor], float],
    count: int,
    *,
    centre: Centre = "centred",
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Of any figure of `count` pictures that can weigh them.

    `statistic`: how often each picture is there, (count,) float64 that sum to count, -> the figure; nothing is
    copied for a resample. All ones is the estimate. UserError for fewer than 2 pictures or 40 resamples, a level that
    is none, and a figure that is not finite.
    """
    _check(count, resamples, level)
    estimate = statistic(torch.ones(count, dtype=torch.float64))
    counts = resampled_counts(count, resamples, seed)
    values = torch.tensor([statistic(times) for times in counts], dtype=torch.float64)
    return _interval(values, estimate, centre, seed, level)


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
    are alike, and count for less than as many strangers. UserError as `bootstrap_interval`, for as few clusters as
    for pictures, and for infinite values (PSNR of equal pictures).
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
    means = [float(times @ sums / (times @ sizes)) for times in resampled_counts(len(names), resamples, seed)]
    return _interval(torch.tensor(means, dtype=torch.float64), float(numbers.mean()), "percentile", seed, level)


def frechet_interval(features: Tensor, reference: Moments, *, level: float = LEVEL) -> Interval:
    """Of the Frechet distance of features (n, d) to fixed statistics, by the infinitesimal jackknife (Jaeckel 1972).

    How the distance answers to the weight of each picture has a closed form: with G = I - S_r^(1/2) (S_r^(1/2) S
    S_r^(1/2))^(-1/2) S_r^(1/2), its gradient by the covariance S, a feature f moves it by 2 (f - m).(m - m_r) +
    (f - m)' G (f - m), about its mean. Their squares give the variance, one decomposition in all. Resampling, which
    costs one each time, overstates the spread where n is not many times d, for duplicates make the covariance poorer:
    at n = 3 d by some 80%, against 20% here, while its percentiles miss the expectation altogether. Where both sets
    are alike the interval is too wide. UserError as `frechet_distance`, and for fewer than 2 pictures.
    """
    values = as_finite(features).cpu()
    _check(len(values), LEAST_RESAMPLES, level)
    own = weighted_moments(values, torch.ones(len(values), dtype=torch.float64))
    estimate = frechet_distance(own, reference)
    # Sums of squares are divided by n - 1.
    gradient = _gradient(own.covariance, reference.covariance) * (len(values) / (len(values) - 1))
    step = 2 * (own.mean - reference.mean)
    parts = []
    for part in torch.split(values, AT_ONCE):
        centred = part - own.mean
        parts.append(centred @ step + ((centred @ gradient) * centred).sum(1))
    moved = torch.cat(parts)
    deviation = float((moved - moved.mean()).square().sum().sqrt()) / len(values)
    half = NormalDist().inv_cdf((1 + level) / 2) * deviation
    return Interval(estimate, max(0.0, estimate - half), estimate + half, "jackknife", level=level)


def weighted_moments(features: Tensor, counts: Tensor) -> Moments:
    """Mean and covariance of features (n, d), each as often as `counts` (n,) says; no copies of them are held.

    UserError for fewer than two in all.
    """
    total = float(counts.sum())
    if total < 2:
        raise UserError(f"{total:g} pictures have no covariance; give at least 2")
    mean = (counts @ features) / total
    squares = features.new_zeros(features.shape[1], features.shape[1])
    for part, times in zip(torch.split(features, AT_ONCE), torch.split(counts, AT_ONCE), strict=True):
        centred = part - mean
        squares += (centred.T * times) @ centred
    return Moments(mean, squares / (total - 1), round(total))


def resampled_counts(count: int, resamples: int, seed: int) -> Iterator[Tensor]:
    """How often each of `count` pictures is among as many drawn with replacement: `resamples` of (count,) float64."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(resamples):
        drawn = torch.randint(count, (count,), generator=generator)
        yield torch.bincount(drawn, minlength=count).double()


def _gradient(own: Tensor, reference: Tensor) -> Tensor:
    """Of tr(S + S_r - 2 (S S_r)^(1/2)) by S; along directions that S has not, it is left at 1."""
    values, vectors = torch.linalg.eigh(reference)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    values, vectors = torch.linalg.eigh(root @ own @ root)
    kept = values > values.max() * len(values) * torch.finfo(values.dtype).eps
    inverse = torch.where(kept, values.clamp(min=torch.finfo(values.dtype).tiny).rsqrt(), 0.0)
    inner = (vectors * inverse) @ vectors.T
    whole: Tensor = torch.eye(len(own), dtype=own.dtype) - root @ inner @ root
    return whole


def _interval(values: Tensor, estimate: float, centre: Centre, seed: int, level: float) -> Interval:
    if not (math.isfinite(estimate) and bool(values.isfinite().all())):
        raise UserError("the figure is not finite for all resamples, so that it has no interval; look at the pictures")
    low, high = values.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)).tolist()
    shift = estimate - float(values.mean()) if centre == "centred" else 0.0
    return Interval(estimate, low + shift, high + shift, centre, len(values), seed, level)


def _check(count: int, resamples: int, level: float, what: str = "pictures") -> None:
    if count < 2:
        raise UserError(f"{count} {what} have no interval; give at least 2")
    if resamples < LEAST_RESAMPLES:
        raise UserError(f"{resamples} resamples are asked for; choose at least {LEAST_RESAMPLES}")
    if not 0 < level < 1:
        raise UserError(f"the interval's level is {level}; choose one between 0 and 1, such as 0.95")
