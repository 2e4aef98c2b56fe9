"""One evaluation: the pictures of a folder or a model, beside real ones, through one extractor, by several metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from latentbrush.conditioning import LabelConditioner
from latentbrush.data.folder import ImageFolder
from latentbrush.errors import UserError
from latentbrush.evaluation.extractor import Extractor
from latentbrush.evaluation.gather import Gathered, gather
from latentbrush.evaluation.measurement import Measurement, PictureSource, Value
from latentbrush.evaluation.metrics import Figure, Metric, MetricOptions
from latentbrush.evaluation.processes import Processes
from latentbrush.evaluation.sets import PictureSet
from latentbrush.formats import record_of
from latentbrush.model import LatentDiffusion
from latentbrush.pipeline import plan_of
from latentbrush.request import Batch
from latentbrush.studies.painted import PaintedPictures

__all__ = ["captions_for", "check_pair", "measure", "painted_by"]

Progress = Callable[[str, int, int], None]


def captions_for(model: LatentDiffusion, folder: ImageFolder, count: int | None) -> list[str | int | None]:
    """What `count` pictures are painted of: an even selection of the folder's captions, one each by default; for a
    model of classes each class in turn; for one without either, nothing.

    UserError where the model reads words and the folder has none.
    """
    many = len(folder) if count is None else count
    if many < 1:
        raise UserError(f"{many} pictures are asked for; give at least 1")
    if isinstance(model.text, LabelConditioner):
        classes = model.text.classes
        return [None if classes is None else i % classes for i in range(many)]
    captions, n = folder.captions, len(folder)
    # More pictures than captions: every caption again, from another noise.
    return [captions[i % n if many > n else i * n // many] for i in range(many)]


def measure(
    metrics: Sequence[Metric],
    pictures: PictureSet,
    data: PictureSet | None,
    extractor: Extractor,
    options: MetricOptions,
    *,
    batch: int = 64,
    team: Processes | None = None,
    on_part: Progress | None = None,
) -> tuple[list[Measurement], list[str]]:
    """All `metrics` at one reading of each set, and warnings of what makes figures mean less than they seem to.

    `on_part(name, done, total)` is called as parts are done. UserError for what a metric refuses, for pictures of
    another size than the data's, and for metrics that need data without any.
    """
    team = team or Processes()
    kept = any(metric.kept for metric in metrics)
    if data is None and (needing := [metric.title for metric in metrics if metric.data]):
        raise UserError(f"{' and '.join(needing)} compare with real pictures; give a folder of them with --data")

    def gathered(one: PictureSet) -> Gathered:
        def told(done: int, total: int) -> None:
            if on_part is not None:
                on_part(one.name, done, total)

        own = gather(one, extractor, keep=kept, batch=batch, share=team.share, on_part=told)
        return team.merged(own)

    # The cheap one first: what is wrong with it is said before hours of painting.
    real = None if data is None else gathered(data)
    painted = gathered(pictures)
    if real is not None:
        check_pair(painted, real)
    found = [_measured(metric, painted, real, options, pictures) for metric in metrics]
    sets = [painted] if real is None else [painted, real]
    return found, [warning for one in sets for warning in _warnings(one, metrics)]


def check_pair(painted: Gathered, real: Gathered) -> None:
    """UserError for sets of unlike sizes: each would have been resized by another ratio."""
    assert painted.size is not None
    assert real.size is not None
    if painted.size != real.size:
        (h, w), (h2, w2) = painted.size, real.size
        raise UserError(
            f"the pictures of {painted.name} are {w}x{h}, those of {real.name} {w2}x{h2}; bring both to one size "
            f"with --size {min(h, h2)}"
        )


def _measured(
    metric: Metric, painted: Gathered, real: Gathered | None, options: MetricOptions, pictures: PictureSet
) -> Measurement:
    figures = metric.compute(painted, painted if real is None else real, options)
    return Measurement(
        metric=metric.name,
        figures={name: _value(figure) for name, figure in figures.items()},
        pictures=_source(painted),
        data=None if real is None or not metric.data else _source(real),
        extractor=painted.identity.to_json(),
        settings={name: value for name, value in asdict(options).items() if name in metric.settings},
        painted=painted_by(pictures) if isinstance(pictures, PaintedPictures) else None,
        versions={"latentbrush": version("latentbrush"), "torch": torch.__version__},
    )


def painted_by(pictures: PaintedPictures) -> dict[str, Any]:
    """The model's files, how it painted, and from which seed on."""
    model, request = pictures.model, pictures.request
    steps = len(plan_of(model, request).steps)
    record = record_of(model, request, index=0, batch=Batch(first=0, size=1), steps_run=steps)
    told = record.model_dump(mode="json", include={"model", "machine"})
    sampling = request.sampling.model_dump(mode="json", include={"sampler", "sigmas", "steps"})
    return {**told, **sampling, "guidance": request.guidance.weight, "seed": pictures.seed}


def _value(figure: Figure) -> Value:
    return Value(value=figure.value, lower_is_better=figure.lower, interval=figure.interval, deviation=figure.deviation)


def _source(gathered: Gathered) -> PictureSource:
    assert gathered.size is not None
    return PictureSource(
        name=gathered.name,
        count=gathered.count,
        distinct=gathered.distinct,
        size=gathered.size,
        digest=gathered.digest,
    )


def _warnings(gathered: Gathered, metrics: Sequence[Metric]) -> list[str]:
    found = []
    if gathered.distinct < gathered.count:
        found.append(
            f"{gathered.name}: only {gathered.distinct} of {gathered.count} pictures differ from one another; equal "
            "ones count as often as they come"
        )
    width = gathered.running.finish().width if gathered.count > 1 else 0
    if gathered.count <= width and any(metric.name in ("fid", "sfid") for metric in metrics):
        found.append(
            f"{gathered.name}: {gathered.count} pictures for features of {width} numbers; a Frechet distance of so few "
            "is biased upwards: compare it only at equal numbers, or take KID"
        )
    return found
