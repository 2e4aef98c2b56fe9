"""The metrics that compare two sets of pictures by their features, under the names of the command line."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.evaluation.bootstrap import frechet_interval, mean_interval
from latentbrush.evaluation.frechet import frechet_distance
from latentbrush.evaluation.gather import Gathered
from latentbrush.evaluation.inception_score import inception_score
from latentbrush.evaluation.kernel import KID_SUBSET, KID_SUBSETS, clip_mmd, kid
from latentbrush.evaluation.manifold import memberships

__all__ = ["METRICS", "Figure", "Metric", "MetricOptions", "mean_figure"]


@dataclass(frozen=True)
class Figure:
    """A number, with its 95% interval, or the deviation that papers print beside it. `lower`: is less better?"""

    value: float
    lower: bool
    interval: tuple[float, float] | None = None
    deviation: float | None = None


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
    """`title`: as papers write it; `kept`: whether it needs the features themselves; `data`: whether it needs real
    pictures; `settings`: which of the options it reads."""

    name: str
    title: str
    help: str
    compute: Compute
    kept: bool = True
    data: bool = True
    settings: tuple[str, ...] = ()


def _fid(painted: Gathered, real: Gathered, options: MetricOptions) -> dict[str, Figure]:
    if not painted.kept:
        return {"FD": Figure(frechet_distance(painted.moments, real.moments), lower=True)}
    found = frechet_interval(painted.features, real.moments)
    return {"FD": Figure(found.estimate, lower=True, interval=(found.low, found.high))}


def _sfid(painted: Gathered, real: Gathered, options: MetricOptions) -> dict[str, Figure]:
    return {"sFD": Figure(frechet_distance(painted.spatial_moments, real.spatial_moments), lower=True)}


def _kid(painted: Gathered, real: Gathered, options: MetricOptions) -> dict[str, Figure]:
    least = min(painted.count, real.count)
    # Subsets of all there is would all be one, and have no deviation.
    size = max(2, min(KID_SUBSET, least // 2)) if options.subset is None else options.subset
    value, deviation = kid(painted.features, real.features, subsets=options.subsets, size=size, seed=options.seed)
    return {"KID": Figure(value, lower=True, deviation=deviation)}


def _cmmd(painted: Gathered, real: Gathered, options: MetricOptions) -> dict[str, Figure]:
    if not painted.identity.name.startswith("clip"):
        raise UserError(f"CMMD is defined on CLIP's embeddings, not on those of {painted.identity.name}; give a CLIP")
    return {"CMMD": Figure(clip_mmd(painted.features, real.features), lower=True)}


def _is(painted: Gathered, real: Gathered, options: MetricOptions) -> dict[str, Figure]:
    value, deviation = inception_score(painted.logits, options.splits, options.seed)
    return {"IS": Figure(value, lower=False, deviation=deviation)}


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
    return Figure(found.estimate, lower, (found.low, found.high))


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("fid", "FID", "Frechet distance of the features (Heusel et al. 2017).", _fid, kept=False),
        Metric("sfid", "sFID", "The same of features of places (Nash et al. 2021).", _sfid, kept=False),
        Metric(
            *("kid", "KID", "Kernel distance, without FID's bias by N (Binkowski et al. 2018).", _kid),
            settings=("subset", "subsets", "seed"),
        ),
        Metric("cmmd", "CMMD", "Discrepancy of CLIP's embeddings (Jayasumana et al. 2024).", _cmmd),
        Metric(
            *("is", "IS", "Inception score: how sure and how varied (Salimans et al. 2016).", _is),
            data=False,
            settings=("splits", "seed"),
        ),
        Metric(
            *(
                "prc",
                "Precision and recall",
                "Precision, recall, density and coverage by nearest neighbours.",
                _prc,
            ),
            settings=("neighbours", "seed"),
        ),
    )
}
