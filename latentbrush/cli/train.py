"""`latentbrush train`: from a recipe to a finished model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from latentbrush.cli.options import filename
from latentbrush.cli.progress import training_bar
from latentbrush.cli.shared import DeviceOption

__all__ = ["train"]


def train(
    recipe: Annotated[Path, typer.Argument(parser=filename, help="A YAML file; recipes/ has some.")],
    run: Annotated[Path, typer.Option(parser=filename, help="A new folder; the finished model lies in RUN/model.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from RUN's last checkpoint.")] = False,
    device: DeviceOption = "auto",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a value of the recipe: a.b=c. Repeatable.")
    ] = None,
) -> None:
    """Train what RECIPE says."""
    from latentbrush.devices import choose_device
    from latentbrush.training import load_recipe, run_recipe

    loaded, place = load_recipe(recipe, overrides or []), choose_device(device)
    with training_bar(loaded.steps) as on_step:
        note = run_recipe(loaded, run, resume=resume, device=place, on_step=on_step)
    if note is not None:
        print(f"latentbrush: {note}", file=sys.stderr)
    print(f"the finished model is in {run / 'model'}")
