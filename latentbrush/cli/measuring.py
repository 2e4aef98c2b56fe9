"""What the measuring commands do once torch may be imported: open the sets, print and write what was found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import torch

from latentbrush.cli.measures import UNPAINTED, MeasureOptions, check_options
from latentbrush.cli.progress import work_bar
from latentbrush.cli.tables import print_table
from latentbrush.data.folder import ImageFolder
from latentbrush.devices import choose_device
from latentbrush.errors import UserError, printable
from latentbrush.evaluation.extractor import ExtractorIdentity
from latentbrush.evaluation.inception_extractor import InceptionResize
from latentbrush.evaluation.known import KnownStatistics, statistics_of
from latentbrush.evaluation.measurement import Measurement, PictureSource
from latentbrush.evaluation.metrics import METRICS, MetricOptions
from latentbrush.evaluation.opening import open_extractor
from latentbrush.evaluation.processes import Processes, processes
from latentbrush.evaluation.sets import FolderPictures, NpzPictures, PictureSet
from latentbrush.evaluation.statistics_file import holds_pictures, write_statistics
from latentbrush.files import write_json
from latentbrush.formats import load_model, replaced_folder
from latentbrush.model import LatentDiffusion
from latentbrush.reporting import report_libraries
from latentbrush.studies.jobs import Outcome
from latentbrush.studies.measuring import Evaluation, captions_for
from latentbrush.studies.painted import PaintedPictures
from latentbrush.studies.report import evaluation_page, measured_by

__all__ = ["evaluation_of", "keep_statistics", "report_folder", "tell", "write"]


ALONE = frozenset((*UNPAINTED, "composition"))
"""What several processes cannot share."""


def evaluation_of(
    names: Sequence[str], options: MeasureOptions, team: Processes, on_part: Callable[[str, int, int], None]
) -> Evaluation:
    """The sets that the options name, and what is to be known of them, for what is to be measured."""
    if team.world > 1 and ALONE & {*names}:
        raise UserError(f"{' and '.join(sorted(ALONE & {*names}))}: {team.world} processes cannot share it; run one")
    device = choose_device(_own_device(options.device, team))
    classes = bool({"is", "reconstruction"} & {*names})
    extractor = open_extractor(options.extractor, device, resize=_resize(options), classes=classes)
    folder = None if options.data is None or options.data.is_file() else ImageFolder.found(options.data)
    data = folder if folder is None or options.split is None else folder.select(options.split)
    model, size, few = None, options.size, options.count if {*names} <= UNPAINTED else None
    if options.model is not None:
        model = load_model(options.model, sampler=options.sampler, device=device)
        if size is None and model.defaults.width == model.defaults.height:
            size = model.defaults.width
    real = _real(options, data, size, few, extractor.identity)
    pictures = _measured(names, options, model, data, real)
    frechet = {*names} <= {metric.name for metric in METRICS.values() if not metric.kept}
    train, held_out = _trained(folder, options) if "memorisation" in names else (None, None)
    return Evaluation(
        pictures,
        real,
        extractor,
        MetricOptions(options.seed, options.subset, neighbours=options.neighbours, splits=options.splits),
        keep=options.intervals or not frechet,
        keep_real=not frechet,
        batch=options.batch_size,
        team=team,
        model=model,
        folder=folder,
        train=None if train is None else FolderPictures(train, size),
        held_out=None if held_out is None else FolderPictures(held_out, size),
        on_part=on_part,
    )


def _own_device(name: str, team: Processes) -> str:
    """Each process its own card."""
    if team.world > 1 and name == "auto" and torch.cuda.is_available():
        return f"cuda:{int(os.environ.get('LOCAL_RANK', team.rank)) % torch.cuda.device_count()}"
    return name


def _measured(
    names: Sequence[str],
    options: MeasureOptions,
    model: LatentDiffusion | None,
    data: ImageFolder | None,
    real: PictureSet | KnownStatistics | None,
) -> PictureSet:
    """The pictures that are there, or those that the model paints when they are read."""
    if options.images is not None and options.images.is_file():
        return NpzPictures(options.images, options.count)
    if options.images is not None:
        chosen = ImageFolder.found(options.images)
        # Data have a split of their own to choose; without any, the split is the pictures'.
        if options.data is None and options.split is not None:
            chosen = chosen.select(options.split)
        return FolderPictures(chosen, options.size, options.count)
    assert model is not None
    if {*names} <= UNPAINTED and real is not None and not isinstance(real, KnownStatistics):
        return real
    return PaintedPictures(model, captions_for(model, data, options.count), options.seed, options.request())


def _resize(options: MeasureOptions) -> InceptionResize:
    for known in get_args(InceptionResize):
        if known == options.resize:
            return known  # type: ignore[no-any-return]
    raise UserError(f"--resize {options.resize!r} is unknown; choose one of {', '.join(get_args(InceptionResize))}")


def _real(
    options: MeasureOptions,
    folder: ImageFolder | None,
    size: int | None,
    most: int | None,
    identity: ExtractorIdentity,
) -> PictureSet | KnownStatistics | None:
    """The data: pictures, or what is left of them."""
    if folder is not None:
        return FolderPictures(folder, size, most)
    if options.data is None:
        return None
    return NpzPictures(options.data) if holds_pictures(options.data) else KnownStatistics(options.data, identity)


def keep_statistics(options: MeasureOptions, out: Path, *, features: bool, overwrite: bool) -> None:
    """Gather --images and write their statistics. UserError for a file that is there, unless `overwrite`."""
    check_options([], options)
    if out.suffix != ".npz":
        raise UserError(f"{out} is to hold statistics; give it a name that ends in .npz")
    if out.is_dir() or out.is_symlink():
        raise UserError(f"{out} is a folder or a link; choose another name")
    if out.exists() and not overwrite:
        raise UserError(f"{out} is there already; choose another name, or replace the file (--overwrite)")
    if not out.absolute().parent.is_dir():
        raise UserError(f"there is no folder {out.absolute().parent}; make it, or choose another")
    with processes() as team, work_bar() as on_part:
        evaluation = evaluation_of(["fid"], options, team, on_part)
        evaluation.keep = features
        found = statistics_of(evaluation.painted)
        if team.speaks:
            write_statistics(out, found)


def _trained(folder: ImageFolder | None, options: MeasureOptions) -> tuple[ImageFolder | None, ImageFolder | None]:
    """What was trained on, and what was held out: by the data's splits, or as --held-out says."""
    if folder is None:
        return None, None
    if options.held_out is not None:
        return folder.divide("train")[0] or folder, ImageFolder.found(options.held_out)
    return folder.divide("train")


def tell(found: Sequence[Measurement]) -> None:
    """A row a figure, and by what it was measured."""
    rows = [
        [name, f"{one.value:.4g}", one.spread, one.better]
        for measurement in found
        for name, one in measurement.figures.items()
    ]
    print_table(rows, columns=("metric", "value", "spread", "better"), right=("value",))
    for pictures, data in dict.fromkeys((_said(one.pictures), _said(one.data)) for one in found):
        print(printable(pictures if data in ("", pictures) else f"{pictures} beside {data}"))
    for line in measured_by(found):
        print(line)


def _said(source: PictureSource | None) -> str:
    if source is None:
        return ""
    return f"{source.count or 'unknown'} pictures of {source.name}"


@contextmanager
def report_folder(options: MeasureOptions, team: Processes) -> Iterator[Path | None]:
    """A new folder that takes the place of --out when all is done; None where there is none, or others write.

    UserError at once for a folder that may not be replaced, and without the libraries for pages.
    """
    if options.out is None or not team.speaks:
        yield None
        return
    report_libraries()
    with replaced_folder(options.out, overwrite=options.overwrite, ours=("metrics.json",)) as new:
        yield new


def write(outcomes: Sequence[Outcome], notes: Sequence[str], evaluation: Evaluation, folder: Path) -> None:
    """metrics.json and index.html."""
    found = [outcome.measurement.model_dump(mode="json") for outcome in outcomes]
    write_json(folder / "metrics.json", {"measurements": found, "notes": list(notes)})
    evaluation_page(outcomes, notes, evaluation).save(folder / "index.html")
