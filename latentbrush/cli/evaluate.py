"""`latentbrush evaluate`: how good a model is, in figures and on a sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentbrush.cli.options import whole
from latentbrush.cli.progress import steps_bar

if TYPE_CHECKING:  # studies import torch
    from rich.table import Table

    from latentbrush.studies import Composition

__all__ = ["evaluate_app"]

evaluate_app = typer.Typer(help="Measure a model.", rich_markup_mode=None)


@evaluate_app.callback()
def _evaluate() -> None:
    """Measure a model."""


@evaluate_app.command()
def composition(
    out: Annotated[Path, typer.Option(help="A new folder: composition.json, composition.png, paintings.jsonl.")],
    model: Annotated[str, typer.Option(help="A shipped model's name, or a diffusers folder.")] = "emoji",
    data: Annotated[Path, typer.Option(help="The emoji world, as `latentbrush data emoji` draws it.")] = Path(
        "data/emoji"
    ),
    seeds: Annotated[int, typer.Option(parser=whole, help="Paintings of each caption.")] = 4,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier evaluation.")] = False,
) -> None:
    """Is the painting of a held-out caption nearest to the held-out original, among all distinct emoji?

    Shares of 400 captions: validation and test halves, hard pairs, trained pictures; with 95% intervals, the
    ceiling that the autoencoder sets, and how often base and attributes are right by themselves.
    """
    from rich.console import Console

    from latentbrush.data.folder import ImageFolder
    from latentbrush.formats import load_model, replaced_folder
    from latentbrush.studies import CompositionStudy

    folder = ImageFolder(data)
    study = CompositionStudy(load_model(model), folder, seeds)
    with replaced_folder(out, overwrite=overwrite, ours=("composition.json",)) as new:
        with steps_bar(study.calls) as on_step:
            found = study.run(on_step)
        found.save(new, {"model": model, "data": str(data)})
    Console().print(_table(found))
    print(f"{out / 'composition.json'}\n{out / 'composition.png'}")


def _table(found: Composition) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title="composition accuracy in %, with 95% interval",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,  # with these two it fits 80 columns
        padding=(0, 1, 0, 0),
    )
    table.add_column("part", no_wrap=True)
    for column in ("emoji", "right", "interval", "base", "attributes", "ceiling", "chance"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, score in found.scores.items():
        low, high = score.right.interval
        table.add_row(
            name.replace("_", " "),
            str(score.emoji),
            f"{100 * score.right.accuracy:.1f}",
            f"{100 * low:.1f}-{100 * high:.1f}",
            f"{100 * score.base.accuracy:.1f}",
            f"{100 * score.attributes.accuracy:.1f}",
            f"{100 * score.ceiling:.1f}",
            f"{100 * score.right.chance:.2f}",
        )
    return table
