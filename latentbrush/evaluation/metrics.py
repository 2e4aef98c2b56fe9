"""The metrics that compare two sets of pictures by their features, under the names of the command line."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from latentbrush.evaluation.bootstrap import frechet_interval, mean_interval
from latentbrush.evaluation.frechet import frechet_distance
from latentbrush.evaluation.gather import Gathered
from latentbrush.evaluation.inception_score import inception_score
from latentbrush.evaluation.kernel import KID_SUBSET, KID_SUBSETS, clip_mmd, clip_mmd_deviation, kernel_deviation, kid
from latentbrush.evaluation.manifold import memberships
from latentbrush.evaluation.measurement import Figure
from latentbrush.evaluation.shares import Z

__all__ = ["METRICS", "Metric", "MetricOptions", "kid_subset", "mean_figure"]


@dataclass(frozen=True)
class MetricOptions:
    """What a figure depends on beside the pictures. `subset`: None for 1000, or half of what there is.

    `neighbours`: of precision and recall; `splits`: of IS.
    """

    seed: int = 0
    subset: int | None = None
    subsets: int = KID_SUBSETS
    neighbours: int = 3
    splits: int = 10


Compute = Callable[[Gathered, Gathered, MetricOptions], dict[str, Figure]]


@dataclass(frozen=True)
class Metric:
    """`title`: as papers write it; `kept`: whether it needs every real picture's features; `data`: whether it needs
    real pictures at all; `settings`: which of the options it reads."""

    name: str
    title: str
    compute: Compute
    kept: bool = True
    data: bool = True
    settings: tuple[str, ...] = ()


def _fid(painted: Gathered, real: Gathered, options: MetricOptions) -> dict[str, Figure]:
    name = painted.identity.frechet
    if not painted.kept:
        return {name: Figure(value=frechet_distance(painted.moments, real.moments), lower_is_better=True)}
    found = frechet_interval(painted.features, real.moments)
    return {name: Figure(value=found.estimate, lower_is_better=True, interval=(found.low, found.high))}


def _sfid(painted: Gathered, real: Gathered, options: MetricOptions) -> dict[str, Figure]:
    value = frechet_distance(painted.spatial_moments, real.spatial_moments)
    return {f"s{painted.identity.frechet}": Figure(value=value, lower_is_better=True)}


def _kid(painted: Gathered, real: Gathered, options: MetricOptions) -> dict[str, Figure]:
    size = kid_subset(painted, real, options)
    value, deviation = kid(painted.features, real.features, subsets=options.subsets, size=size, seed=options.seed)
    interval = _about(value, kernel_deviation(painted.features, real.features))
    return {"KID": Figure(value=value, lower_is_better=True, interval=interval, deviation=deviation)}


def kid_subset(painted: Gathered, real: Gathered, options: MetricOptions) -> int:
    """The size of KID's subsets: what is asked for, or the papers' 1000, or half of what there is."""
    if options.subset is not None:
        return options.subset
    # Subsets of all there is would all be one, and have no deviation.
    return max(2, min(KID_SUBSET, min(len(painted.features), len(real.features)) // 2))


def _cmmd(painted: Gathered, real: Gathered, options: MetricOptions) -> dict[str, Figure]:
    value = clip_mmd(painted.features, real.features)
    interval = _about(value, clip_mmd_deviation(painted.features, real.features))
    return {"CMMD": Figure(value=value, lower_is_better=True, interval=interval)}


def _about(value: float, deviation: float) -> tuple[float, float]:
    """The 95% interval of a figure whose noise is near to normal."""
    return value - Z * deviation, value + Z * deviation


def _is(painted: Gathered, real: Gathered, options: MetricOptions) -> dict[str, Figure]:
    value, deviation = inception_score(painted.logits, options.splits, options.seed)
    return {"IS": Figure(value=value, lower_is_better=False, deviation=deviation)}


def _prc(painted: Gathered, real: Gathered, options: MetricOptions) -> dict[str, Figure]:
    # Intervals are over the pictures that are counted; the balls they are counted in stay.
    found = memberships(real.features, painted.features, options.neighbours)
    each = {
        "precision": found.within,
        "recall": found.recalled,
        "density": found.crowding,
        "coverage": found.reached,
    }
    return {name: mean_figure(values, options.seed, lower=False) for name, values in each.items()}


def mean_figure(values: Tensor, seed: int, *, lower: bool, clusters: Sequence[Hashable] | None = None) -> Figure:
    """The mean of (n,) with its interval; what belongs to one of `clusters` (n,) is drawn together."""
    found = mean_interval(values, clusters=clusters, seed=seed)
    return Figure(value=found.estimate, lower_is_better=lower, interval=(found.low, found.high))


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("fid", "FID", _fid, kept=False),
        Metric("sfid", "sFID", _sfid, kept=False),
        Metric("kid", "KID", _kid, settings=("subset", "subsets", "seed")),
        Metric("cmmd", "CMMD", _cmmd),
        Metric("is", "IS", _is, data=False, settings=("splits", "seed")),
        Metric("prc", "Precision and recall", _prc, settings=("neighbours", "seed")),
    )
}
