"""One evaluation: the pictures of a folder or a model, beside real ones, through one extractor, by several metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import version
from typing import Any

import torch

from latentbrush.conditioning import LabelConditioner
from latentbrush.data.folder import ImageFolder
from latentbrush.errors import UserError
from latentbrush.evaluation.extractor import Extractor
from latentbrush.evaluation.gather import Gathered, gather
from latentbrush.evaluation.known import KnownStatistics
from latentbrush.evaluation.measurement import Figure, Measurement, PictureSource
from latentbrush.evaluation.metrics import Metric, MetricOptions, kid_subset
from latentbrush.evaluation.processes import Processes
from latentbrush.evaluation.sets import FolderPictures, PictureSet
from latentbrush.formats import files_of, machine_of, record_of
from latentbrush.model import LatentDiffusion
from latentbrush.pipeline import plan_of
from latentbrush.request import Batch
from latentbrush.studies.painted import PaintedPictures

__all__ = ["Evaluation", "captions_for", "measurement", "painted_by", "record", "said_of"]

Progress = Callable[[str, int, int], None]


def captions_for(model: LatentDiffusion, folder: ImageFolder | None, count: int | None) -> list[str | int | None]:
    """What `count` pictures are painted of: an even selection of the folder's captions, one each by default; for a
    model of classes each class in turn; for one without either, nothing.

    UserError where the model reads words and the folder has none, and where nothing says how many.
    """
    if count is None and folder is None:
        raise UserError("how many pictures are to be painted? the data do not say it; give --count, such as 1000")
    many = len(folder) if count is None and folder is not None else count
    assert many is not None
    if isinstance(model.text, LabelConditioner):
        classes = model.text.classes
        return [None if classes is None else i % classes for i in range(many)]
    if folder is None:
        raise UserError(
            "the model reads words, and the data have no captions to paint; give a folder with a metadata.jsonl"
        )
    captions, n = folder.captions, len(folder)
    # More pictures than captions: every caption again, from another noise.
    return [captions[i % n if many > n else i * n // many] for i in range(many)]


def said_of(model: LatentDiffusion, pictures: FolderPictures) -> list[str | int | None]:
    """What real pictures are, in the model's words: their captions, or labels; None for a model that reads neither.

    UserError where their records do not say it.
    """
    records = [pictures.folder.records[i] for i in pictures.indices]
    if not isinstance(model.text, LabelConditioner):
        captions = pictures.folder.captions
        return [captions[i] for i in pictures.indices]
    if model.text.classes is None:
        return [None] * len(records)
    for record in records:
        if type(record.get("label")) is not int:
            raise UserError(f"{record['file_name']} has no label for a model of classes; add 'label', a whole number")
        model.text.check(record["label"])
    return [record["label"] for record in records]


@dataclass
class Evaluation:
    """What all metrics of one call share: each set is read, or painted, once, and only if one asks for it.

    `keep`: the features of every measured picture, 4 bytes a number, which intervals and all but moments need;
    `keep_real`: of every real one. `model`: whose first stage and likelihood are measured; `folder`: all of the data,
    whatever split; `train`, `held_out`: what it was trained on, and real pictures that it was not. `on_part(name, done,
    total)` is called as parts of a set are done.
    """

    pictures: PictureSet
    data: PictureSet | KnownStatistics | None
    extractor: Extractor
    options: MetricOptions = field(default_factory=MetricOptions)
    keep: bool = True
    keep_real: bool = True
    batch: int = 64
    team: Processes = field(default_factory=Processes)
    model: LatentDiffusion | None = None
    folder: ImageFolder | None = None
    train: PictureSet | None = None
    held_out: PictureSet | None = None
    on_part: Progress | None = None
    seen: list[Gathered] = field(default_factory=list, init=False)

    @cached_property
    def real(self) -> Gathered | None:
        if isinstance(self.data, KnownStatistics):
            return self.data
        return None if self.data is None else self.gathered(self.data, keep=self.keep_real)

    @cached_property
    def painted(self) -> Gathered:
        """UserError for fewer than 2 pictures."""
        if len(self.pictures) < 2:
            raise UserError(f"{len(self.pictures)} picture is too few to measure; give at least 2")
        return self.gathered(self.pictures, keep=self.keep)

    def gathered(self, one: PictureSet, *, keep: bool = True) -> Gathered:
        """Any further set, by the same extractor."""
        share, watch = self.team.share, self.told(one.name)

        def own() -> Gathered:
            return gather(one, self.extractor, keep=keep, batch=self.batch, share=share, on_part=watch)

        self.seen.append(self.team.merged(own))
        return self.seen[-1]

    def told(self, name: str) -> Callable[[int, int], None]:
        """A watcher of one more piece of work."""
        return lambda done, total: None if self.on_part is None else self.on_part(name, done, total)

    def measure(self, metric: Metric) -> Measurement:
        """UserError for what the metric refuses, and where it needs data and there are none."""
        if metric.data and self.data is None:
            raise UserError(f"{metric.title} compares with real pictures; give a folder of them with --data")
        real = self.real if metric.data else None  # before hours of painting
        if real is not None:
            check_pair(self.painted, real)
        figures = metric.compute(self.painted, self.painted if real is None else real, self.options)
        settings = {name: value for name, value in asdict(self.options).items() if name in metric.settings}
        if real is not None and "subset" in settings:
            settings["subset"] = kid_subset(self.painted, real, self.options)
        return self.measurement(metric.name, figures, real, settings)

    def measurement(
        self, name: str, figures: Mapping[str, Figure], real: Gathered | None, settings: Mapping[str, Any]
    ) -> Measurement:
        """Of the pictures: `measurement`, with what painted them."""
        painted = painted_by(self.pictures) if isinstance(self.pictures, PaintedPictures) else None
        return measurement(name, figures, (self.painted, real), settings, painted)

    @property
    def measured_model(self) -> dict[str, Any]:
        """The files of the model whose own parts are measured."""
        assert self.model is not None
        return model_files(self.model)

    def warnings(self, metrics: Sequence[str]) -> list[str]:
        """What makes the figures mean less than they seem to, of the sets that were looked at."""
        notes = [self.data.note] if isinstance(self.data, KnownStatistics) and self.data.note else []
        sets = [*self.seen, *([self.data] if isinstance(self.data, KnownStatistics) else [])]
        return notes + [
            warning for one in sets for warning in _warnings(one, frechet=bool({"fid", "sfid"} & {*metrics}))
        ]


def check_pair(painted: Gathered, real: Gathered) -> None:
    """UserError for pictures of another size than the data's: each would be resized by another ratio."""
    if real.size is not None and painted.size is not None and painted.size != real.size:
        (h, w), (h2, w2) = painted.size, real.size
        raise UserError(
            f"the pictures of {painted.name} are {w}x{h}, those of {real.name} {w2}x{h2}; bring both to one size "
            f"with --size {min(h, h2)}"
        )


def measurement(
    name: str,
    figures: Mapping[str, Figure],
    sets: tuple[Gathered, Gathered | None],
    settings: Mapping[str, Any],
    painted: Mapping[str, Any] | None = None,
) -> Measurement:
    """A record of `figures`; `sets`: what was measured, and beside what."""
    pictures, real = sets
    identity = pictures.identity.to_json()
    sources = (_source(pictures), None if real is None else _source(real))
    return record(name, figures, sources, identity, settings, painted)


def record(
    name: str,
    figures: Mapping[str, Figure],
    sources: tuple[PictureSource, PictureSource | None],
    extractor: Mapping[str, str | int] | None,
    settings: Mapping[str, Any],
    painted: Mapping[str, Any] | None = None,
) -> Measurement:
    """As `measurement`, of figures that no extractor's features were gathered for."""
    for title, figure in figures.items():
        if not all(map(math.isfinite, (figure.value, *(figure.interval or ()), figure.deviation or 0.0))):
            raise UserError(
                f"{title} is {figure.value}; look at the pictures, or at the statistics they are compared with"
            )
    return Measurement(
        metric=name,
        figures=dict(figures),
        pictures=sources[0],
        data=sources[1],
        extractor=extractor,
        settings=dict(settings),
        painted=painted,
        versions={"latentbrush": version("latentbrush"), "torch": torch.__version__},
    )


def model_files(model: LatentDiffusion) -> dict[str, Any]:
    """As every picture's record has them."""
    return {"model": files_of(model).model_dump(mode="json"), "machine": machine_of(model).model_dump(mode="json")}


def painted_by(pictures: PaintedPictures) -> dict[str, Any]:
    """The model's files, how it painted, and from which seed on."""
    model, request = pictures.model, pictures.request
    steps = len(plan_of(model, request).steps)
    record = record_of(model, request, index=0, batch=Batch(first=0, size=1), steps_run=steps)
    told = record.model_dump(mode="json", include={"model", "machine"})
    sampling = request.sampling.model_dump(mode="json", include={"sampler", "sigmas", "steps"})
    return {**told, **sampling, "guidance": request.guidance.weight, "seed": pictures.seed}


def _source(gathered: Gathered) -> PictureSource:
    return PictureSource(
        name=gathered.name,
        count=gathered.count,
        distinct=gathered.distinct,
        size=gathered.size,
        digest=gathered.digest,
    )


def _warnings(gathered: Gathered, *, frechet: bool) -> list[str]:
    name, count, found = gathered.name, gathered.count, []
    if gathered.distinct < count:
        found.append(
            f"{name}: only {gathered.distinct} of {count} pictures differ from one another; equal ones count as often "
            "as they come"
        )
    width = gathered.width
    if frechet and 0 < count <= width:
        found.append(
            f"{name}: {count} pictures for features of {width} numbers; a Frechet distance of so few is biased "
            "upwards: compare it only at equal numbers, or take KID"
        )
    return found
