"""How values on the command line are read; what cannot be read is refused with the value in the message."""

from __future__ import annotations

import math
from pathlib import Path

import typer
from pydantic import ValidationError

from latentbrush.errors import one_line
from latentbrush.request import MAX_SIDE, Canvas

__all__ = ["filename", "number", "size", "whole"]


def whole(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        if text.isdigit():  # Python reads up to 4,300 of them
            raise typer.BadParameter(f"a number of {len(text)} digits is too large; give one such as 20") from None
        raise typer.BadParameter(f"{text!r} is not a whole number; give one such as 20") from None


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise typer.BadParameter(f"{text!r} is not a finite number; give one such as 0.5 or 7")
    return value


def filename(text: str | Path) -> Path:
    """A file or folder. Without a letter it would be the current folder, which a variable left empty never meant."""
    if not text or "\0" in str(text):  # typer hands over defaults, too, which are paths
        raise typer.BadParameter(f"{text!r} is no path; give the name of a file or folder")
    return Path(text)


def size(text: str) -> Canvas:
    """WxH in pixels."""
    try:
        width, height = (int(side) for side in text.lower().split("x"))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a size; give WIDTHxHEIGHT in pixels, such as 32x32") from None
    try:
        return Canvas(width=width, height=height)
    except ValidationError as error:
        most = f"{MAX_SIDE}x{MAX_SIDE}"
        raise typer.BadParameter(f"{text!r}: {one_line(error)}; give WIDTHxHEIGHT from 1x1 to {most}") from None
