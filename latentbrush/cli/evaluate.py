"""`latentbrush evaluate`: how good a model is, in figures and on a sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import TypeAdapter

from latentbrush.cli.measures import COMMANDS, MeasureOptions, measure_all, measure_command
from latentbrush.cli.options import filename, number, whole
from latentbrush.cli.progress import steps_bar
from latentbrush.cli.shared import DeviceOption
from latentbrush.cli.spread import with_options
from latentbrush.errors import UserError
from latentbrush.request import GuidanceRequest, ImageRequest, Sampling, Text

if TYPE_CHECKING:  # studies import torch
    from latentbrush.studies import Composition

__all__ = ["evaluate_app"]

evaluate_app = typer.Typer(help="Measure a model.", rich_markup_mode=None)


@evaluate_app.callback()
def _evaluate() -> None:
    """Measure a model."""


for name in COMMANDS:
    evaluate_app.command(name)(measure_command(name))
evaluate_app.command("all")(with_options(measure_all, MeasureOptions))


@evaluate_app.command()
def statistics(
    images: Annotated[Path, typer.Argument(parser=filename, help="A folder of pictures, or ADM's .npz of them.")],
    out: Annotated[Path, typer.Argument(parser=filename, help="A new .npz, for --data.")],
    size: Annotated[int | None, typer.Option(parser=whole, help="Pixels a side to which pictures are brought.")] = None,
    split: Annotated[str | None, typer.Option(help="Of the pictures, only those of this split.")] = None,
    extractor: Annotated[str, typer.Option(help="As for the other commands.")] = MeasureOptions.extractor,
    resize: Annotated[str, typer.Option(help="Inception: tensorflow or clean.")] = MeasureOptions.resize,
    features: Annotated[bool, typer.Option("--features", help="Keep all features, too, for KID and its kin.")] = False,
    batch_size: Annotated[int, typer.Option(parser=whole, help="Pictures at once.")] = MeasureOptions.batch_size,
    device: DeviceOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Keep what FID compares of real pictures, in a file that ADM's evaluator and clean-fid read, too."""
    options = MeasureOptions(
        images=images, size=size, extractor=extractor, resize=resize, batch_size=batch_size, device=device, split=split
    )
    from latentbrush.cli.measuring import keep_statistics

    keep_statistics(options, out, features=features, overwrite=overwrite)
    print(out)


@evaluate_app.command()
def compare(
    files: Annotated[list[Path], typer.Argument(parser=filename, help="metrics.json of two or more evaluations.")],
) -> None:
    """Set the figures of several evaluations beside each other, if they were measured alike.

    Refused where extractor, resize filter, precision, number and size of pictures, data, settings or seed differ.
    """
    if len(files) < 2:
        raise UserError("1 file is given; give at least 2 to compare")
    from latentbrush.cli.tables import print_table
    from latentbrush.evaluation.measurement import compared, read_measurements

    rows = compared([(str(file), read_measurements(file)) for file in files])
    columns = ("metric", *(file.parent.name or file.name for file in files), "better")
    print_table(rows, columns=columns, right=columns[1:-1])


@evaluate_app.command()
def composition(
    out: Annotated[
        Path, typer.Option(parser=filename, help="A new folder: composition.json, composition.png, paintings.jsonl.")
    ],
    model: Annotated[str, typer.Option(help="A shipped model's name, or a diffusers folder.")] = "emoji",
    data: Annotated[
        Path, typer.Option(parser=filename, help="The emoji world, as `latentbrush data emoji` draws it.")
    ] = Path("data/emoji"),
    seeds: Annotated[int, typer.Option(parser=whole, help="Paintings of each caption.")] = 4,
    steps: Annotated[int | None, typer.Option(parser=whole, help="Denoising steps, instead of the model's.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Instead of the model's.")] = None,
    guidance: Annotated[float | None, typer.Option(parser=number, help="Instead of the model's; 1 is none.")] = None,
    device: DeviceOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier evaluation.")] = False,
) -> None:
    """Is the painting of a held-out caption nearest to the held-out original, among all distinct emoji?

    Shares of 400 captions: validation and test halves, hard pairs, trained pictures; with 95% intervals, the
    ceiling that the autoencoder sets, and how often base and attributes are right by themselves.
    """
    request = ImageRequest(
        prompt="", sampling=Sampling(steps=steps, sampler=sampler), guidance=GuidanceRequest(weight=guidance)
    )
    # Asked now: a name that no JSON file can hold would be refused when all is painted.
    about = TypeAdapter(dict[str, Text]).validate_python({"model": model, "data": str(data)})
    from latentbrush.data.folder import ImageFolder
    from latentbrush.formats import load_model, replaced_folder
    from latentbrush.studies import CompositionStudy

    folder = ImageFolder(data)
    study = CompositionStudy(load_model(model, sampler=sampler, device=device), folder, seeds, request)
    with replaced_folder(out, overwrite=overwrite, ours=("composition.json",)) as new:
        with steps_bar(study.calls) as on_step:
            found = study.run(on_step)
        found.save(new, about)
    _print(found)
    print(f"{out / 'composition.json'}\n{out / 'composition.png'}")


def _print(found: Composition) -> None:
    from latentbrush.cli.tables import print_table

    def percent(share: float) -> str:
        return f"{100 * share:.1f}"

    rows = []
    for name, score in found.scores.items():
        interval = "-".join(percent(bound) for bound in score.right.interval)
        shares = (score.right.accuracy, score.base.accuracy, score.attributes.accuracy, score.ceiling)
        right, base, attributes, ceiling = (percent(share) for share in shares)
        rows.append([name.replace("_", " "), str(score.emoji), right, interval, base, attributes, ceiling])
    columns = ("part", "emoji", "right", "interval", "base", "attributes", "ceiling")
    distinct = len(found.study.originals.distinct)
    print("composition accuracy in %, with 95% interval")
    print_table(rows, columns=columns, right=columns[1:])
    print(f"chance: {100 / distinct:.2g}, one of {distinct} distinct emoji")
