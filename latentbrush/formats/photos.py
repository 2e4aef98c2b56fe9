"""Pictures that users bring: any photograph or drawing -> RGB, 8 bits a channel.

Colours are taken as sRGB: embedded colour profiles are not applied.
"""

from __future__ import annotations

import hashlib
import warnings
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from latentbrush.errors import UserError

__all__ = ["MAX_PIXELS", "Photo", "as_rgb", "cover", "load_photo", "read_photo"]

MAX_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded; their colours alone take 300 MB."""

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "ICO", "TGA")
"""Pillow's names. Not all that it knows: for some, EPS above all, it runs other programs on the file."""


class Photo(NamedTuple):
    """`sha256` of the file, by which requests name it, and its picture: RGB, upright, in its own size."""

    sha256: str
    image: Image.Image


def load_photo(path: str | Path) -> Photo:
    """Read a picture file of any format that Pillow reads. UserError, one line, for what is no such file."""
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is no file" if path.exists() else "does not exist"
        raise UserError(f"the picture {path} {what}; give a picture file such as a PNG or JPEG")
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"cannot read the picture {path} ({error.strerror}); make it readable") from None
    with file:
        return read_photo(file, str(path))


def read_photo(file: BufferedReader | BytesIO, name: str) -> Photo:
    """`load_photo` from an open file; `name` stands in the errors.

    UserError for what cannot be decoded, ends too early, holds several pictures (an animation or pages; a
    phone's JPEG with further ones behind the photograph counts as one) or has more than `MAX_PIXELS`.
    """
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    try:
        # Pillow warns of its two limits, for which ours stands, and of what it can do without, such as broken EXIF.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Photo(sha256, as_rgb(_open_one(file)))
    except UserError as error:
        raise UserError(f"the picture {name}: {error}") from None
    except Exception as error:  # on damaged files Pillow's readers raise whatever their parsing meets
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "its format is none of those known here"
        raise UserError(
            f"the picture {name} cannot be read ({reason}); save it anew as PNG or JPEG, or give another"
        ) from None


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
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise UserError(
            f"it holds {frames} pictures (an animation or pages), but one is needed; "
            "save the one you mean as a file of its own"
        )
    return image


def as_rgb(image: Image.Image) -> Image.Image:
    """Any picture as upright RGB: turned as its EXIF orientation says, transparency on white.

    Grey of 16 bits is scaled to 8. UserError for pixels of 32 bits, whose range no file states.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = _from_16_bits(image)
    if image.mode == "F":
        raise UserError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Grey as 'L'. Pillow's own conversion clips at 255 instead."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UserError("its pixels are 32-bit numbers of unknown range; save it with 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def cover(image: Image.Image, width: int, height: int) -> Image.Image:
    """The RGB picture in `width` x `height` pixels, scaled to cover them; what reaches beyond is cut off evenly.

    A picture of that size stays as it is, of one pixel becomes an even colour.
    """
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
