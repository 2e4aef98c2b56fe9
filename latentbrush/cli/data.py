"""`latentbrush data`: data sets to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latentbrush.cli.options import filename
from latentbrush.cli.progress import count_bar

__all__ = ["data_app"]

data_app = typer.Typer(help="Build data sets.", rich_markup_mode=None)


@data_app.callback()
def _data() -> None:
    """Build data sets."""


@data_app.command()
def emoji(directory: Annotated[Path, typer.Argument(parser=filename, help="A new folder.")]) -> None:
    """Draw the emoji world into DIRECTORY: 128-pixel PNGs with captions in English and Korean."""
    from latentbrush.data.emoji import build_emoji_world

    with count_bar("drawing") as on_progress:
        count = build_emoji_world(directory, on_progress=on_progress)
    print(f"{directory}: {count} pictures")
