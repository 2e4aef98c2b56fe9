"""Known codes of the same pictures, JPEG and PNG, for comparison: their bits and what comes back."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["CODES", "Code", "coded"]

SHEET = 256
"""Pictures in one file: of a small picture's own JPEG the tables alone would take most."""


@dataclass(frozen=True)
class Code:
    """`quality`: of JPEG, Pillow's 1 to 95; of PNG, the colours of its palette, None for all there are."""

    kind: Literal["JPEG", "PNG"]
    quality: int | None

    @property
    def name(self) -> str:
        if self.kind == "JPEG":
            return f"JPEG, quality {self.quality}"
        return "PNG" if self.quality is None else f"PNG, {self.quality} colours"

    def encode(self, image: Image.Image) -> bytes:
        buffer = io.BytesIO()
        if self.kind == "JPEG":
            image.save(buffer, "JPEG", quality=self.quality, optimize=True)
        elif self.quality is None:
            image.save(buffer, "PNG", optimize=True)
        else:
            image.quantize(self.quality, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()


CODES = (
    *(Code("JPEG", quality) for quality in (5, 10, 20, 35, 50, 75, 90, 95)),
    *(Code("PNG", colours) for colours in (4, 8, 16, 32, 64, 128, 256, None)),
)


def coded(pictures: Tensor, code: Code) -> tuple[float, Tensor]:
    """uint8 (N, 3, H, W) -> bits per dimension, and the pictures that come back.

    Side by side in files of `SHEET`, whose headers they share; blank places in the last row cost their few bits.
    """
    total, back = 0, []
    for part in torch.split(pictures, SHEET):
        columns = math.ceil(math.sqrt(len(part)))
        data = code.encode(_sheet(part, columns))
        total += len(data)
        back.append(_cut(data, part, columns))
    return 8 * total / pictures.numel(), torch.cat(back)


def _sheet(pictures: Tensor, columns: int) -> Image.Image:
    count, _, h, w = pictures.shape
    rows = math.ceil(count / columns)
    blank = torch.full((rows * columns - count, 3, h, w), 255, dtype=torch.uint8)
    cells = torch.cat([pictures, blank]).reshape(rows, columns, 3, h, w)
    return Image.fromarray(cells.permute(0, 3, 1, 4, 2).reshape(rows * h, columns * w, 3).numpy())


def _cut(data: bytes, pictures: Tensor, columns: int) -> Tensor:
    count, _, h, w = pictures.shape
    with Image.open(io.BytesIO(data)) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB")))
    cells = pixels.reshape(-1, h, columns, w, 3)
    return cells.permute(0, 2, 4, 1, 3).flatten(0, 1)[:count].contiguous()
