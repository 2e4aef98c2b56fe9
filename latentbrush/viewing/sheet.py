"""Labelled sheets of pictures, and the files they are kept in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from latentbrush.errors import UserError
from latentbrush.files import whole_file

__all__ = ["LEAST", "MOST", "labelled_sheet", "save_animation", "save_sheet"]

LEAST, MOST = 128, 256
"""Between these lies a cell's longer side, in pixels."""
GAP, MARGIN = 6, 12
FONT_SIZE = 15
INK, PAPER = (40, 40, 40), (236, 236, 236)
"""Grey, so that pictures on white ground have an edge."""


def labelled_sheet(
    columns: Sequence[str],
    rows: Mapping[str, Sequence[Image.Image]],
    *,
    least: int = LEAST,
    most: int = MOST,
) -> Image.Image:
    """A sheet: a label above each column, the rows' names on the left, an RGB picture in each cell.

    Every cell has the size that the first picture is brought to: enlarged by a whole factor until its longer
    side has `least` pixels, each pixel a square, or reduced until it has `most`. The labels are Latin letters,
    the only ones that the font which comes with Pillow has; a name may have several lines.
    """
    font = ImageFont.load_default(FONT_SIZE)
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    def extent(text: str) -> tuple[int, int]:
        left, top, right, bottom = ruler.multiline_textbbox((0, 0), text, font=font)
        return int(right - left) + 1, int(bottom - top) + 1

    cell = _cell(next(iter(rows.values()))[0].size, least, most)
    width = max(cell[0], *(extent(label)[0] for label in columns)) + GAP
    gutter = max(extent(name)[0] for name in rows)
    left = MARGIN + (gutter + MARGIN if gutter > 1 else 0)
    top = MARGIN + FONT_SIZE + GAP
    height = cell[1] + GAP
    size = (left + len(columns) * width - GAP + MARGIN, top + len(rows) * height - GAP + MARGIN)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, label in enumerate(columns):
        draw.text((left + i * width + (width - GAP) // 2, MARGIN), label, fill=INK, font=font, anchor="ma")
    for j, (name, pictures) in enumerate(rows.items()):
        y = top + j * height
        draw.multiline_text((MARGIN, y + (cell[1] - extent(name)[1]) // 2), name, fill=INK, font=font)
        for i, picture in enumerate(pictures):
            sheet.paste(_resized(picture, cell), (left + i * width + (width - GAP - cell[0]) // 2, y))
    return sheet


def _cell(size: tuple[int, int], least: int, most: int) -> tuple[int, int]:
    width, height = size
    longer = max(size)
    if longer > most:
        return max(1, width * most // longer), max(1, height * most // longer)
    factor = max(1, -(-least // longer))
    return width * factor, height * factor


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    smaller = size[0] < picture.width or size[1] < picture.height
    return picture.resize(size, Image.Resampling.LANCZOS if smaller else Image.Resampling.NEAREST)


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a PNG file, whole or not at all. UserError where the disk refuses."""
    _make_folder(path.parent)
    with whole_file(path) as beside:
        sheet.save(beside, format="PNG")


def save_animation(frames: Sequence[Image.Image], durations: Sequence[int], path: Path) -> None:
    """Write an animated WebP that runs for ever, whole or not at all. UserError where the disk refuses.

    `durations`: of each frame, in milliseconds.
    """
    _make_folder(path.parent)
    first, *rest = frames
    with whole_file(path) as beside:
        first.save(
            beside, format="WEBP", save_all=True, append_images=rest, duration=list(durations), loop=0, quality=90
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder} ({error.strerror}); name another --out") from None
