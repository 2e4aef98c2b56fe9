"""Many pictures on one sheet."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from latentbrush.data.pixels import to_image

__all__ = ["picture_grid"]


def picture_grid(pictures: Tensor, columns: int, *, side: int = 96, gap: int = 4) -> Image.Image:
    """A white sheet of pictures (B, 3, H, W) in [-1, 1], row by row, enlarged to at least `side` pixels.

    Enlarged by whole factors without smoothing, so that every pixel can be seen as it is.
    """
    height, width = pictures.shape[-2:]
    factor = max(1, -(-side // max(height, width)))
    rows = -(-len(pictures) // columns)
    cell = (width * factor + gap, height * factor + gap)
    sheet = Image.new("RGB", (columns * cell[0] + gap, rows * cell[1] + gap), "white")
    for i, picture in enumerate(pictures):
        enlarged = to_image(picture).resize((width * factor, height * factor), Image.Resampling.NEAREST)
        sheet.paste(enlarged, (gap + i % columns * cell[0], gap + i // columns * cell[1]))
    return sheet
