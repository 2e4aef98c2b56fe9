"""How a folder of transformers says that pictures are to be prepared: preprocessor_config.json, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.evaluation.resize import ResizeFilter, resized_to
from latentbrush.files import read_json
from latentbrush.formats import PixelScale, read_pixels
from latentbrush.formats.fields import Fields

__all__ = ["PREPROCESSOR", "Preprocessing", "read_preprocessing"]

PREPROCESSOR = "preprocessor_config.json"
FILTERS: Mapping[int, ResizeFilter] = {2: "bilinear", 3: "bicubic"}
"""By Pillow's numbers. Its others are of other uses."""
MOST = 4096
"""Pixels along a side; a damaged file could ask for more than there is memory for."""
Size = tuple[int, int]


@dataclass(frozen=True)
class Preprocessing:
    """Resize, cut, scale. `size`: (height, width), or the length of the shorter side; `crop`: (height, width) of the
    middle that is kept, None for all."""

    size: Size | int
    crop: Size | None
    how: ResizeFilter
    pixels: PixelScale

    @property
    def side(self) -> int:
        """The shorter side of what the network sees."""
        return min(self.crop) if self.crop else self.size if isinstance(self.size, int) else min(self.size)

    @property
    def told(self) -> str:
        """All of it in words, for what must be alike where figures are compared."""
        size = f"shorter side {self.size}" if isinstance(self.size, int) else _times(self.size)
        crop = f", middle {_times(self.crop)}" if self.crop else ""
        mean, std = (" ".join(f"{value:g}" for value in values) for values in (self.pixels.mean, self.pixels.std))
        return f"{self.how}, antialiased, {size}{crop}, mean {mean}, std {std}"

    def __call__(self, pictures: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) -> float32 (B, 3, h, w). UserError for pictures that are smaller than the crop."""
        smaller = resized_to(pictures, self._size_of(pictures.shape[-2], pictures.shape[-1]), self.how)
        if self.crop:
            (height, width), (h, w) = smaller.shape[-2:], self.crop
            if height < h or width < w:
                raise UserError(
                    f"the middle {_times(self.crop)} of pictures of {height}x{width} cannot be cut; state a crop_size "
                    f"in {PREPROCESSOR} that is no larger than its size"
                )
            top, left = (height - h) // 2, (width - w) // 2
            smaller = smaller[..., top : top + h, left : left + w]
        return self.pixels(smaller)

    def _size_of(self, height: int, width: int) -> Size:
        if not isinstance(self.size, int):
            return self.size
        if height <= width:
            return self.size, int(self.size * width / height)
        return int(self.size * height / width), self.size


def _times(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def read_preprocessing(path: Path) -> Preprocessing:
    """UserError names what is missing, unknown, wrong or not supported.

    Nothing is guessed: processors differ in what they do where their file is silent.
    """
    fields = Fields(path, read_json(path))
    fields.only("do_resize", True)
    fields.only("do_center_crop", False, True)
    for key in ("image_mean", "image_std"):
        fields.numbers(key)  # an error where it is not stated
    fields.harmless("image_processor_type", "feature_extractor_type", "processor_class", "do_convert_rgb")
    fields.harmless("data_format", "input_data_format", "default_to_square", "disable_grouping", "return_tensors")
    fields.harmless("do_normalize", "do_rescale", "rescale_factor")  # `read_pixels` checks them
    resample = fields.whole("resample")
    if resample not in FILTERS:
        raise fields.wrong("resample", resample, " or ".join(f"{n} ({name})" for n, name in FILTERS.items()))
    crops = fields.raw("do_center_crop") is True
    size = _size(fields, crops)
    crop = _crop(fields) if crops else None
    fields.harmless("crop_size")
    fields.done()
    return Preprocessing(size, crop, FILTERS[resample], read_pixels(path))


def _size(fields: Fields, crops: bool) -> Size | int:
    value = fields.raw("size")
    if _is_side(value) and not crops:  # of old files; before a crop, some processors took it so, some for a square
        return value, value
    if isinstance(value, dict):
        stated = {key: side for key, side in value.items() if side is not None}
        if stated.keys() == {"shortest_edge"} and _is_side(stated["shortest_edge"]):
            return int(stated["shortest_edge"])
        found = _height_and_width(stated)
        if found:
            return found
    raise fields.wrong("size", value, f"a height and a width, or a shortest_edge, from 1 to {MOST}")


def _crop(fields: Fields) -> Size:
    value = fields.raw("crop_size")
    found = (value, value) if _is_side(value) else _height_and_width(value) if isinstance(value, dict) else None
    if found is None:
        raise fields.wrong("crop_size", value, f"a height and a width from 1 to {MOST}")
    return found


def _height_and_width(value: Mapping[str, Any]) -> Size | None:
    stated = {key: side for key, side in value.items() if side is not None}
    if stated.keys() != {"height", "width"} or not all(_is_side(side) for side in stated.values()):
        return None
    return int(stated["height"]), int(stated["width"])


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST
