"""The same pictures by several samplers, row by row of network calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from latentbrush.reporting import Picture
from latentbrush.studies.steps.scores import Score, Scores

__all__ = ["sheets"]

ACROSS = 4
MOST = 6
"""Samplers that are shown."""
LEAST_WIDTH = 56
"""Pixels of a picture as shown; smaller ones are enlarged a whole number of times."""


def sheets(scores: Scores, chosen: Sequence[str]) -> list[Picture]:
    """One picture a sampler: winners first, then the `chosen`; its rows are the budgets, then the converged ones."""
    winners = [scores.ranked(budget)[0].name for budget in scores.budgets if scores.ranked(budget)]
    names = dict.fromkeys((*winners, *chosen, *(route.name for route in scores.study.routes)))
    shown: list[Picture] = []
    for name in names:
        rows = [score for budget in scores.budgets if (score := scores.get(name, budget)) is not None]
        if rows and len(shown) < MOST:
            last = [] if scores.converged is None else [scores.converged]
            calls = ", ".join(str(row.calls) for row in rows)
            caption = f"{name}: {calls} calls{'; converged' if last else ''}"
            shown.append(Picture(_sheet([*rows, *last]), caption, caption))
    return shown


def _sheet(rows: Sequence[Score]) -> Image.Image:
    strips = [_strip(row.folder / "strip.png") for row in rows]
    gap = 4
    sheet = Image.new("RGB", (strips[0].width, sum(strip.height + gap for strip in strips) - gap), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height + gap
    return sheet


def _strip(path: Path) -> Image.Image:
    with Image.open(path) as image:
        side = image.height  # pictures are square
        strip = image.convert("RGB").crop((0, 0, min(image.width, ACROSS * side), side))
    times = -(-LEAST_WIDTH // side)
    return strip.resize((strip.width * times, strip.height * times), Image.Resampling.NEAREST)
