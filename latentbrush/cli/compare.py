"""How a picture painted again relates to the first: in its pixels, and in what made it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # these import torch
    from PIL.Image import Image

    from latentbrush.formats import Parameters, PictureRecord

__all__ = ["compared", "lines_of"]

MAX_NOTES = 30
"""Lines about one picture; a file may give cause for any number."""


def compared(painted: Image, original: Image) -> str:
    """How the two relate, up to the name of the second."""
    import numpy as np

    if painted.size != original.size:
        ours, theirs = (f"{image.width}x{image.height}" for image in (painted, original))
        return f"{ours} pixels, unlike the {theirs} of"
    apart = np.abs(np.asarray(painted).astype(int) - np.asarray(original).astype(int)).max(axis=-1)
    if not apart.any():
        return "identical to"
    return f"{np.count_nonzero(apart)} of {apart.size} pixels differ, by at most {apart.max()} of 255, from"


def lines_of(notes: Sequence[str], told: PictureRecord | Parameters, now: PictureRecord, *, same: bool) -> list[str]:
    """What is not as it was, a line each, but never without end."""
    from latentbrush.formats import PictureRecord, differences

    lines = list(notes)
    if isinstance(told, PictureRecord):
        lines += differences(told, now)
        if not lines and not same:
            lines.append("weights, versions and threads are as they were: it was changed, or is from another machine")
    return lines if len(lines) <= MAX_NOTES else [*lines[:MAX_NOTES], f"and {len(lines) - MAX_NOTES} more"]
