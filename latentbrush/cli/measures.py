"""`latentbrush evaluate fid` and its kin: the pictures of a folder or a model beside real ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentbrush.cli.options import filename, number, whole
from latentbrush.cli.progress import count_bar
from latentbrush.cli.shared import DeviceOption
from latentbrush.cli.spread import with_options
from latentbrush.errors import UserError
from latentbrush.request import GuidanceRequest, ImageRequest, Sampling

if TYPE_CHECKING:  # they import torch
    from latentbrush.evaluation.extractor import Extractor
    from latentbrush.evaluation.measurement import Measurement, Value
    from latentbrush.evaluation.sets import PictureSet

__all__ = ["COMMANDS", "MeasureOptions", "measure_command"]

COMMANDS = {
    "fid": "Frechet distance of features, lower is better: FID where the features are Inception's.",
    "sfid": "The same of features of places: sFID, which sees where things lie.",
    "kid": "Kernel distance of features, which does not depend on the number of pictures.",
    "cmmd": "CLIP maximum mean discrepancy.",
    "is": "Inception score: how sure a classifier is, and how varied its answers are.",
    "prc": "Precision, recall, density and coverage by nearest neighbours.",
}
"""As `latentbrush.evaluation.METRICS` has them, for whoever asks before torch is there."""


@dataclass(frozen=True)
class MeasureOptions:
    """What a measuring command takes; each field is an option of its name."""

    model: Annotated[str | None, typer.Option(help="Measure what this model paints: a name, folder or file.")] = None
    images: Annotated[
        Path | None, typer.Option(parser=filename, help="Measure the pictures of this folder instead.")
    ] = None
    data: Annotated[
        Path | None,
        typer.Option(parser=filename, help="The real pictures: a folder; a model paints the captions of its metadata."),
    ] = None
    split: Annotated[str | None, typer.Option(help="Of the data, only those of this split.")] = None
    count: Annotated[int | None, typer.Option(parser=whole, help="Pictures to measure; all, or one a caption.")] = None
    size: Annotated[
        int | None, typer.Option(parser=whole, help="Pixels a side to which folders are brought; the model's, or none.")
    ] = None
    extractor: Annotated[
        str,
        typer.Option(help="A CLIP's name or folder, a folder of transformers' vision models, or Inception's weights."),
    ] = "emoji-clip"
    seed: Annotated[int, typer.Option(parser=whole, help="Of paintings and subsets; picture i has seed + i.")] = 0
    steps: Annotated[int | None, typer.Option(parser=whole, help="Denoising steps, instead of the model's.")] = None
    sampler: Annotated[str | None, typer.Option(help="Instead of the model's.")] = None
    guidance: Annotated[float | None, typer.Option(parser=number, help="Instead of the model's; 1 is none.")] = None
    batch_size: Annotated[int, typer.Option(parser=whole, help="Pictures at once.")] = 64
    subset: Annotated[int | None, typer.Option(parser=whole, help="KID: pictures a subset; 1000, or all.")] = None
    neighbours: Annotated[int, typer.Option(parser=whole, help="Precision and recall: the k-th neighbour.")] = 3
    splits: Annotated[int, typer.Option(parser=whole, help="IS: parts.")] = 10
    device: DeviceOption = "auto"
    out: Annotated[
        Path | None, typer.Option(parser=filename, help="A new folder for metrics.json, with all it depends on.")
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier evaluation.")] = False

    def request(self) -> ImageRequest:
        return ImageRequest(
            prompt="",
            sampling=Sampling(steps=self.steps, sampler=self.sampler),
            guidance=GuidanceRequest(weight=self.guidance),
        )


def measure_command(name: str) -> Callable[..., None]:
    """The command of one metric."""

    def command(options: MeasureOptions) -> None:
        run([name], options)

    command.__doc__ = COMMANDS[name]
    return with_options(command, MeasureOptions)


def run(names: Sequence[str], options: MeasureOptions) -> None:
    """Measure, print a table, and write metrics.json where a folder is named."""
    _check(options)
    from latentbrush.evaluation.metrics import METRICS, MetricOptions
    from latentbrush.evaluation.processes import processes
    from latentbrush.studies.measuring import measure

    with processes() as team:
        pictures, data = sets_of(options)
        extractor = extractor_of(options)
        with count_bar("reading") as on_progress:
            found, warnings = measure(
                [METRICS[name] for name in names],
                pictures,
                data,
                extractor,
                MetricOptions(options.seed, options.subset, neighbours=options.neighbours, splits=options.splits),
                batch=options.batch_size,
                team=team,
                on_part=lambda name, done, total: on_progress(done, total),
            )
        if not team.speaks:
            return
    for warning in warnings:
        print(f"latentbrush: {warning}", file=sys.stderr)
    print_measurements(found)
    if options.out is not None:
        write_measurements(found, warnings, options.out, overwrite=options.overwrite)
        print(options.out / "metrics.json")


def _check(options: MeasureOptions) -> None:
    """What is wrong with the options together, said before torch is imported."""
    if (options.model is None) == (options.images is None):
        raise UserError("one of --model and --images is needed: whose paintings, or which folder's pictures?")
    if options.model is not None and options.data is None:
        raise UserError("--data is needed with --model: the folder whose captions it paints")
    for name, least in (("count", 1), ("size", 1), ("batch_size", 1), ("subset", 2), ("neighbours", 1), ("splits", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} {value} must be at least {least}")
    if not 0 <= options.seed < 2**63:
        raise UserError(f"--seed {options.seed} must be from 0 to 2^63 - 1")


def sets_of(options: MeasureOptions) -> tuple[PictureSet, PictureSet | None]:
    """The pictures to measure, and the real ones."""
    from latentbrush.data.folder import ImageFolder
    from latentbrush.evaluation.sets import FolderPictures

    folder = None if options.data is None else ImageFolder.found(options.data)
    if folder is not None and options.split is not None:
        folder = folder.select(options.split)
    if options.images is not None:
        pictures = FolderPictures(ImageFolder.found(options.images), options.size, options.count)
        return pictures, None if folder is None else FolderPictures(folder, options.size)
    from latentbrush.formats import load_model
    from latentbrush.studies.measuring import captions_for
    from latentbrush.studies.painted import PaintedPictures

    assert options.model is not None
    assert folder is not None
    model = load_model(options.model, sampler=options.sampler, device=options.device)
    said = captions_for(model, folder, options.count)
    painted = PaintedPictures(model, said, options.seed, options.request())
    width, height = painted.request.canvas.width, painted.request.canvas.height
    return painted, FolderPictures(folder, width if options.size is None and width == height else options.size)


def extractor_of(options: MeasureOptions) -> Extractor:
    from latentbrush.devices import choose_device
    from latentbrush.evaluation.clip_extractor import CLIPExtractor

    return CLIPExtractor(options.extractor, choose_device(options.device))


def print_measurements(found: Sequence[Measurement]) -> None:
    """A row a figure, and by what it was measured."""
    from latentbrush.cli.tables import print_table

    rows = [
        [name, f"{one.value:.4g}", _spread(one), "lower" if one.lower_is_better else "higher"]
        for measurement in found
        for name, one in measurement.figures.items()
    ]
    print_table(rows, columns=("metric", "value", "spread", "better"), right=("value",))
    first = found[0]
    beside = "" if first.data is None else f" beside {first.data.count} of {first.data.name}"
    print(f"{first.pictures.count} pictures of {first.pictures.name}{beside}")
    told = first.extractor
    print(f"features: {told['name']} at {told['side']} pixels ({told['resize']}, {told['precision']})")


def _spread(one: Value) -> str:
    if one.interval is not None:
        return f"{one.interval[0]:.4g} to {one.interval[1]:.4g}"
    return "" if one.deviation is None else f"± {one.deviation:.2g}"


def write_measurements(found: Sequence[Measurement], warnings: Sequence[str], out: Path, *, overwrite: bool) -> None:
    from latentbrush.files import write_json
    from latentbrush.formats import replaced_folder

    with replaced_folder(out, overwrite=overwrite, ours=("metrics.json",)) as new:
        content = {"measurements": [one.model_dump(mode="json") for one in found], "warnings": list(warnings)}
        write_json(new / "metrics.json", content)
