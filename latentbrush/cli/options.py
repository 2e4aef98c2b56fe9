"""How values on the command line are read; what cannot be read is refused with the value in the message."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import typer
from pydantic import ValidationError

from latentbrush.errors import one_line
from latentbrush.request import MAX_SIDE, Canvas, Tiles

__all__ = ["Offset", "filename", "number", "offset", "size", "tiling", "whole"]


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


@dataclass(frozen=True)
class Offset:
    """How far from the left and from above, in pixels."""

    x: int
    y: int


def offset(text: str) -> Offset:
    """X,Y in pixels."""
    try:
        x, y = (int(side) for side in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a place; give X,Y in pixels, such as 0,0") from None
    if not 0 <= min(x, y) <= max(x, y) <= MAX_SIDE:
        raise typer.BadParameter(f"{text!r}: both must lie in 0 to {MAX_SIDE}; 0,0 cuts nothing off")
    return Offset(x, y)


def tiling(text: str) -> Tiles:
    """auto, on or off. `decode` is for records alone: it says how memory ran out once."""
    for known in ("auto", "on", "off"):
        if text == known:
            return known
    raise typer.BadParameter(f"{text!r} is unknown; choose auto, on or off")
