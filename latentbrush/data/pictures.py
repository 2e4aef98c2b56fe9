"""Picture files of any origin: one picture a file, opened safely, upright, with 8 bits a channel.

Colours are taken as sRGB: embedded colour profiles are not applied.
"""

from __future__ import annotations

import warnings
from io import BufferedReader, BytesIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from latentbrush.errors import UserError

__all__ = ["FORMATS", "MAX_PIXELS", "as_rgb", "read_upright", "reason"]

MAX_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded; their colours alone take 300 MB."""

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "ICO", "TGA")
"""Pillow's names. Not all that it knows: for some, EPS above all, it runs other programs on the file."""


def read_upright(file: BufferedReader | BytesIO) -> Image.Image:
    """The file's one picture as upright RGB or, where it has transparency, RGBA, in its own size.

    UserError, without the file's name, for several pictures (an animation or pages; a phone's JPEG with further
    ones behind the photograph counts as one), more than `MAX_PIXELS` and pixels of unknown range. For what cannot
    be decoded or ends too early, whatever Pillow's readers meet: `reason` puts it into words.
    """
    # Pillow warns of its two limits, for which ours stands, and of what it can do without, such as broken EXIF.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _upright(_open_one(file))


def reason(error: Exception) -> str:
    """Why Pillow could not read a file, on one line."""
    if isinstance(error, UnidentifiedImageError):
        return "its format is none of those known here"
    return " ".join(str(error).split()) or type(error).__name__


def as_rgb(image: Image.Image, ground: str = "white") -> Image.Image:
    """Any picture as upright RGB: turned as its EXIF orientation says, transparency on `ground`.

    Grey of 16 bits is scaled to 8. UserError for pixels of 32 bits, whose range no file states.
    """
    image = _upright(image)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, ground), image)
    return image.convert("RGB")


def _open_one(file: BufferedReader | BytesIO) -> Image.Image:
    """The file's one picture, its header read, its pixels not yet."""
    Image.init()
    try:
        image = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
        size = f"{image.width}x{image.height}"
        too_large = image.width * image.height > MAX_PIXELS
    except Image.DecompressionBombError:
        size, too_large = "its", True
    if too_large:
        raise UserError(f"{size} pixels are too many, at most {MAX_PIXELS // 10**6} million are read; make it smaller")
    if image.format != "MPO" and _has_second(image):
        raise UserError(
            "it holds several pictures (an animation or pages), but one is needed; "
            "save the one you mean as a file of its own"
        )
    return image


def _has_second(image: Image.Image) -> bool:
    """Are there more pictures than one? To count them all (`n_frames`) takes minutes where there are a million."""
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _upright(image: Image.Image) -> Image.Image:
    """RGB, or RGBA where there is transparency; a copy, all its pixels decoded."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = _from_16_bits(image)
    if image.mode == "F":
        raise UserError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Grey as 'L'. Pillow's own conversion clips at 255 instead."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UserError("its pixels are 32-bit numbers of unknown range; save it with 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
