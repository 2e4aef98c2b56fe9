"""A contact sheet: captions, their originals, what was painted for them and what that is nearest to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from latentbrush.data.pixels import to_image

__all__ = ["PaintedCell", "SheetRow", "contact_sheet"]

SIDE = 72  # the least side of a picture on the sheet, in pixels
GAP, MARGIN, CAPTION = 10, 16, 250
TITLE, FRAME, LINE, WORD = 44, 4, 18, 18
INK, PALE, RIGHT, NEAR = "#202020", "#8a8a8a", "#128a2e", "#c77700"
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class PaintedCell:
    """A painting and its nearest original, both uint8 (3, H, W). `right` frames it green; `word` says what else is."""

    painted: Tensor
    nearest: Tensor
    right: bool
    word: str


@dataclass(frozen=True)
class SheetRow:
    """A caption, its original (3, H, W) uint8, and a cell for each seed."""

    caption: str
    original: Tensor
    cells: Sequence[PaintedCell]


def contact_sheet(title: str, sections: Mapping[str, Sequence[SheetRow]], columns: Sequence[str]) -> Image.Image:
    """A white sheet with a heading for each section and a line for each of its rows.

    `columns`: what stands above the paintings. Pictures are enlarged by whole factors without smoothing,
    so that every pixel can be seen as it is.
    """
    first = next(rows[0] for rows in sections.values() if rows)
    side = max(first.original.shape[-2:])
    side *= max(1, -(-SIDE // side))
    row_height = side + WORD + GAP
    width = 2 * MARGIN + _cells(0, side, len(columns) + 1)[-1]
    heights = [3 * LINE + len(rows) * row_height for rows in sections.values()]
    sheet = Image.new("RGB", (width, 2 * MARGIN + TITLE + sum(heights)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    draw.text((MARGIN, MARGIN - 6), title, INK, ImageFont.load_default(18))
    draw.text((MARGIN, MARGIN + LINE), "In a green frame, the nearest original is the one asked for.", RIGHT, font)
    top = MARGIN + TITLE
    for (heading, rows), height in zip(sections.items(), heights, strict=True):
        _heading(draw, (MARGIN, top), heading, columns, side, font)
        for i, row in enumerate(rows):
            _row(sheet, draw, row, (MARGIN, top + 3 * LINE - FRAME + i * row_height), side, font)
        top += height
    return sheet


def _cells(left: int, side: int, count: int) -> list[int]:
    """Where the cells begin."""
    return [left + CAPTION + side + 3 * GAP + i * (2 * side + 3 * GAP) for i in range(count)]


def _heading(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], heading: str, columns: Sequence[str], side: int, font: Font
) -> None:
    left, top = place
    draw.line((left, top, draw.im.size[0] - MARGIN, top), PALE)
    draw.text((left, top + 6), heading, INK, font)
    below = top + 6 + LINE
    draw.text((left + CAPTION, below), "original", PALE, font)
    for x, column in zip(_cells(left, side, len(columns)), columns, strict=True):
        draw.text((x, below), column, PALE, font)
        draw.text((x + side, below), "nearest", PALE, font)


def _row(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, row: SheetRow, place: tuple[int, int], side: int, font: Font
) -> None:
    left, top = place
    for i, line in enumerate(_wrapped(row.caption, font, CAPTION - 2 * GAP)):
        draw.text((left, top + i * LINE), line, INK, font)
    _paste(sheet, row.original, (left + CAPTION, top), side)
    for x, cell in zip(_cells(left, side, len(row.cells)), row.cells, strict=True):
        if cell.right:
            draw.rectangle((x - FRAME, top - FRAME, x + 2 * side + FRAME - 1, top + side + FRAME - 1), RIGHT)
        _paste(sheet, cell.painted, (x, top), side)
        _paste(sheet, cell.nearest, (x + side, top), side)
        draw.line((x + side, top, x + side, top + side - 1), RIGHT if cell.right else PALE)
        draw.text((x, top + side + FRAME), cell.word, RIGHT if cell.right else NEAR, font)


def _wrapped(text: str, font: Font, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _paste(sheet: Image.Image, picture: Tensor, place: tuple[int, int], side: int) -> None:
    sheet.paste(to_image(picture).resize((side, side), Image.Resampling.NEAREST), place)
