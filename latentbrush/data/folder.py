"""A folder of images with a metadata.jsonl: the ImageFolder convention of the Hugging Face hub.

Every line of metadata.jsonl is a JSON object with `file_name`, relative to the folder, and further fields;
`text` is the usual name of the caption.
"""

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageColor

from latentbrush.data.pictures import read_upright, reason
from latentbrush.devices import memory_for
from latentbrush.errors import UserError, short

__all__ = ["ImageFolder"]

METADATA = "metadata.jsonl"
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".ppm"))
"""Of files that are taken for pictures where no metadata names them."""
_EXPECTED = "write one JSON object a line, with 'file_name' and 'text'"


class ImageFolder:
    """The images of a folder in the order of its metadata.jsonl, with their records.

    Opening reads the metadata and checks that every file is there; pixels are read by `image` and
    `load`. UserError, naming the file or the line, for anything missing, malformed or unreadable, and
    for a `file_name` that leads out of the folder.
    """

    directory: Path
    records: list[dict[str, Any]]

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.records = list(_read_metadata(self.directory))

    @classmethod
    def found(cls, directory: str | Path) -> "ImageFolder":
        """The folder by its metadata.jsonl or, where it has none, all pictures in it and below, by their names.

        UserError for a folder without pictures.
        """
        directory = Path(directory)
        if (directory / METADATA).exists() or not directory.is_dir():
            return cls(directory)
        names = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if _is_picture(path))
        if not names:
            raise UserError(f"{directory} holds no pictures, nor {METADATA}; give a folder of PNG, JPEG or WebP files")
        return cls._of(directory, [{"file_name": name} for name in names])

    @classmethod
    def _of(cls, directory: Path, records: list[dict[str, Any]]) -> "ImageFolder":
        folder = object.__new__(cls)
        folder.directory, folder.records = directory, records
        return folder

    def __len__(self) -> int:
        return len(self.records)

    @property
    def captions(self) -> list[str]:
        """The field `text` of every record; UserError where one has none."""
        for record in self.records:
            if not isinstance(record.get("text"), str):
                raise UserError(
                    f"{record['file_name']} has no caption: give it a field 'text' in {self.directory / METADATA}"
                )
        return [record["text"] for record in self.records]

    def select(self, split: str) -> "ImageFolder":
        """The records whose field `split` is the one given; those without the field belong to 'train'."""
        chosen = [record for record in self.records if record.get("split", "train") == split]
        if not chosen:
            known = sorted({str(record.get("split", "train")) for record in self.records})
            raise UserError(f"{self.directory} has no split {split!r}: choose one of {', '.join(known)}")
        return self._of(self.directory, chosen)

    def divide(self, split: str) -> "tuple[ImageFolder | None, ImageFolder | None]":
        """The records of a split, and all others; None for none."""
        inside = [record for record in self.records if record.get("split", "train") == split]
        others = [record for record in self.records if record.get("split", "train") != split]
        parts = [self._of(self.directory, chosen) if chosen else None for chosen in (inside, others)]
        return parts[0], parts[1]

    def image(self, index: int) -> Image.Image:
        """One picture as RGBA in its own size, turned as its EXIF orientation says."""
        path = self.directory / self.records[index]["file_name"]
        try:
            with path.open("rb") as file:
                return read_upright(file).convert("RGBA")
        except UserError as error:
            raise UserError(f"the image {path}: {error}, or take its line out of {METADATA}") from None
        except Exception as error:  # on damaged files Pillow's readers raise whatever their parsing meets
            raise UserError(
                f"cannot read the image {path} ({reason(error)}): replace it or take its line out of {METADATA}"
            ) from error

    def load(self, size: int, background: str | tuple[int, int, int] = "white") -> torch.Tensor:
        """All pictures on a background: uint8 (N, 3, size, size), 0 to 255.

        `background` is a colour name, '#rrggbb' or a triple of 0 to 255. Pictures that are not square are cut
        to the square in their middle.
        """
        _check_size(size)
        what = f"two copies of {len(self)} pictures of {size}x{size} pixels"
        # Twice, for whoever loads them joins them with others or works on a copy.
        memory_for(what, 2 * 3 * size * size * len(self), "choose a smaller size or fewer pictures")
        pixels = np.empty((len(self), 3, size, size), dtype=np.uint8)
        for index in range(len(self)):
            pixels[index] = self.pixels(index, size, background)
        return torch.from_numpy(pixels)

    def pixels(
        self, index: int, size: int | None, background: str | tuple[int, int, int] = "white"
    ) -> npt.NDArray[np.uint8]:
        """One picture as `load` has it, (3, size, size); with `size` None in its own size, nothing cut off."""
        image, colour = self.image(index), _colour(background)
        if size is None:
            return np.asarray(_on_background(image, colour)).transpose(2, 0, 1)
        _check_size(size)
        return np.asarray(_resized(_on_background(_middle_square(image), colour), size)).transpose(2, 0, 1)


def _check_size(size: int) -> None:
    if size < 1:
        raise UserError(f"size is {size} pixels, but must be at least 1")


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _read_metadata(directory: Path) -> Iterator[dict[str, Any]]:
    if not directory.is_dir():
        raise UserError(f"{directory} is not a folder: give the folder that holds the images and {METADATA}")
    path = directory / METADATA
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no regular file")  # a pipe would be waited for
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror or error}): {_EXPECTED}") from error
    empty = True
    for number, line in enumerate(lines, start=1):
        if line.strip():
            empty = False
            yield _read_record(directory, line, f"{path}, line {number}")
    if empty:
        raise UserError(f"{path} has no records: {_EXPECTED}")


def _read_record(directory: Path, line: bytes, place: str) -> dict[str, Any]:
    try:
        # Some editors begin a file with a byte order mark.
        record = json.loads(line.decode("utf-8-sig"))
        if b"\\ud" in line.lower():  # half a letter would fail wherever the text is written
            json.dumps(record, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # a number may be too long, too
        raise UserError(f"{place}: not JSON in UTF-8 ({error}): mend or remove the line") from error
    if not isinstance(record, dict) or not isinstance(record.get("file_name"), str):
        raise UserError(f"{place}: no object with a text 'file_name': mend or remove the line")
    name = record["file_name"]
    # Windows paths are looked at everywhere, so that a folder means the same on every system.
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if not name or path.is_absolute() or path.drive or path.root or ".." in path.parts:
            raise UserError(f"{place}: file_name {name!r} leads out of the folder: make it relative, without '..'")
    try:
        there = (directory / name).is_file()
    except OSError as error:  # a name longer than any file's, a folder closed to the user
        what = f"{short(name)} cannot be looked for ({error.strerror or error})"
        raise UserError(f"{place}: the image {what}: mend or remove the line") from None
    if not there:
        raise UserError(f"{place}: the image {name!r} is missing: restore it or remove the line")
    return record


def _colour(background: str | tuple[int, int, int]) -> tuple[int, int, int]:
    try:
        rgb = ImageColor.getrgb(background)[:3] if isinstance(background, str) else background
    except ValueError as error:
        raise UserError(f"background {background!r} is no colour: give a name, '#rrggbb' or a triple") from error
    if len(rgb) != 3 or not all(0 <= value <= 255 for value in rgb):
        raise UserError(f"background {background!r} is no colour: give three numbers from 0 to 255")
    return rgb[0], rgb[1], rgb[2]


def _on_background(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    ground = Image.new("RGBA", image.size, (*colour, 255))
    return Image.alpha_composite(ground, image).convert("RGB")


def _middle_square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _resized(image: Image.Image, size: int) -> Image.Image:
    """Resize a square, whose transparency already lies on a background, so that hidden colours lend nothing.

    Whole-number reductions (128 to 32) average blocks: Lanczos overshoots at the hard edges of flat drawings,
    leaves rims beside them that the background clips, and the block mean is what super-resolution inverts.
    Every other ratio takes Lanczos, since averaging would weigh neighbouring pixels unevenly.
    """
    if image.width == size:
        return image
    whole = image.width % size == 0
    return image.resize((size, size), Image.Resampling.BOX if whole else Image.Resampling.LANCZOS)
