"""Pictures that users bring: any photograph or drawing -> RGB, 8 bits a channel, known by its file's SHA-256."""

from __future__ import annotations

import hashlib
import os
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

from latentbrush.data.pictures import as_rgb, read_upright, reason
from latentbrush.errors import UserError

__all__ = ["Photo", "cover", "load_photo", "read_photo"]

MAX_BYTES = 10**9
"""As many pixels as are read have 800 MB, uncompressed, at 16 bits and with transparency."""


class Photo(NamedTuple):
    """`sha256` of the file, by which requests name it, and its picture: RGB, upright, in its own size."""

    sha256: str
    image: Image.Image


def load_photo(path: str | Path, ground: str = "white") -> Photo:
    """Read a picture file of one of `data.pictures.FORMATS`. UserError, one line, for what is no such file.

    `ground`: the colour behind what is transparent; black for masks, where nothing was marked there.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is no file" if path.exists() else "does not exist"
        what = "is a link that leads nowhere" if path.is_symlink() and not path.exists() else what
        raise UserError(f"the picture {path} {what}; give a picture file such as a PNG or JPEG")
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"cannot read the picture {path} ({error.strerror}); make it readable") from None
    with file:
        return read_photo(file, str(path), ground)


def read_photo(file: BufferedReader | BytesIO, name: str, ground: str = "white") -> Photo:
    """`load_photo` from an open file; `name` stands in the errors.

    UserError for what cannot be decoded, ends too early or is refused by `data.pictures.read_upright`.
    """
    size = file.seek(0, os.SEEK_END)
    if size > MAX_BYTES:
        raise UserError(f"the picture {name} has {size} bytes, at most {MAX_BYTES} are read; save it smaller")
    file.seek(0)
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    try:
        return Photo(sha256, as_rgb(read_upright(file), ground))
    except UserError as error:
        raise UserError(f"the picture {name}: {error}") from None
    except Exception as error:  # on damaged files Pillow's readers raise whatever their parsing meets
        raise UserError(
            f"the picture {name} cannot be read ({reason(error)}); save it anew as PNG or JPEG, or give another"
        ) from None


def cover(image: Image.Image, width: int, height: int) -> Image.Image:
    """The RGB picture in `width` x `height` pixels, scaled to cover them; what reaches beyond is cut off evenly.

    A picture of that size stays as it is, of one pixel becomes an even colour.
    """
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
