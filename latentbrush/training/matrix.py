"""How alike captions and pictures are, as a sheet to look at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from latentbrush.data.pixels import to_image

__all__ = ["similarity_sheet"]

CELL, MARGIN, TEXT = 56, 4, 12


def similarity_sheet(similarity: Tensor, captions: Sequence[str], pictures: Tensor) -> Image.Image:
    """A row a caption, a column a picture, each cell their cosine, printed and shaded.

    `similarity`: (R, C) in [-1, 1]; `captions`: R; `pictures`: (C, 3, h, w) uint8, drawn on top. The sheet's
    least cosine is white, its greatest blue; the greatest of each row has a black frame.
    """
    font = ImageFont.load_default(TEXT)
    left = MARGIN * 2 + max(int(font.getlength(caption)) for caption in captions)
    rows, columns = similarity.shape
    sheet = Image.new("RGB", (left + columns * CELL + MARGIN, (rows + 1) * CELL + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for column, pixels in enumerate(pictures):
        side = CELL - MARGIN
        sheet.paste(
            to_image(pixels).resize((side, side), Image.Resampling.NEAREST), (left + column * CELL, MARGIN // 2)
        )
    low, high = float(similarity.min()), float(similarity.max())
    shade = (similarity - low) / max(high - low, 1e-6)
    for row, caption in enumerate(captions):
        top = (row + 1) * CELL
        draw.text((left - MARGIN, top + CELL // 2), caption, fill="black", font=font, anchor="rm")
        best = int(similarity[row].argmax())
        for column in range(columns):
            box = (left + column * CELL, top, left + (column + 1) * CELL - MARGIN, top + CELL - MARGIN)
            _cell(draw, box, float(shade[row, column]), column == best)
            label = f"{float(similarity[row, column]):.2f}"
            middle = ((box[0] + box[2]) // 2, (box[1] + box[3]) // 2)
            dark = float(shade[row, column]) > 0.5
            draw.text(middle, label, fill="white" if dark else "black", font=font, anchor="mm")
    return sheet


def _cell(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], shade: float, best: bool) -> None:
    colour = torch.lerp(torch.tensor([255.0, 255.0, 255.0]), torch.tensor([30.0, 70.0, 160.0]), shade)
    red, green, blue = (int(value) for value in colour.round())
    draw.rectangle(box, fill=(red, green, blue), outline="black" if best else None, width=2 if best else 1)
