"""Pictures as PNG files that carry the request they were painted from."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from latentbrush.errors import UserError
from latentbrush.files import new_folders, whole_file
from latentbrush.formats.parameters import PARAMETERS_KEY, parameters_of, write_parameters
from latentbrush.formats.record import PictureRecord, parse_record
from latentbrush.model import LatentDiffusion
from latentbrush.request import ImageRequest

__all__ = [
    "METADATA_KEY",
    "check_writable",
    "output_path",
    "output_paths",
    "read_record",
    "read_texts",
    "save_picture",
    "texts_of",
]

METADATA_KEY = "latentbrush"
"""The PNG text that holds the picture's record, with its request, as JSON."""


def output_path(out: Path | None, stem: str) -> Path:
    """Where one picture goes: the PNG file `out`, or `stem`.png in the folder `out` (out/ if None).

    UserError for another kind of file.
    """
    if out is not None and out.name.lower() == ".png" and not out.is_dir():
        raise UserError(f"cannot write {out}: it has no name before .png; name it {out.with_name('picture.png')}")
    if out is None or out.is_dir() or not out.suffix:
        return (out or Path("out")) / f"{stem}.png"
    if out.suffix.lower() != ".png":
        raise UserError(f"cannot write {out}: pictures are PNG files; name it {out.with_suffix('.png')}")
    return out


def output_paths(out: Path | None, request: ImageRequest) -> list[Path]:
    """Where the pictures of a resolved request go, in order.

    `out` a PNG file: that file, or x-0.png, x-1.png, ... for more than one picture. A folder (out/ if None):
    names made of the prompt or label and the seed of each picture. UserError as `output_path`.
    """
    count, seed = request.sampling.count, request.sampling.seed
    assert seed is not None
    # 40 letters of up to 4 bytes: a file name holds 255 bytes.
    words = re.sub(r"\W+", "-", request.prompt).strip("-")[:40].strip("-")
    words = words or ("picture" if request.label is None else f"class-{request.label}")
    paths = [output_path(out, f"{words}-{seed + i}") for i in range(count)]
    if out is None or paths[0] != out or count == 1:
        return paths
    return [out.with_stem(f"{out.stem}-{i}") for i in range(count)]


def check_writable(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Before any work is done: UserError where a picture exists (unless `overwrite`) or cannot be written."""
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()  # a name too long is an error here; later Pythons' is_dir and exists pass over it
        if path.is_dir():
            raise UserError(f"{path} is a folder; name a PNG file")
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists; name another --out, or replace it with --overwrite")
    for folder in {path.parent for path in paths}:
        _check_folder(folder)


def _check_folder(folder: Path) -> None:
    """Make the folder if it is absent, and take it away again: what fails later must leave nothing."""
    try:
        with new_folders(folder, keep=False):
            if not os.access(folder, os.W_OK):
                raise UserError(f"cannot write into {folder} (permission denied, or read-only); name another --out")
    except OSError as error:
        raise UserError(f"cannot make the folder {folder} ({error.strerror}); name another --out") from None


def save_picture(image: Image.Image, path: Path, texts: Mapping[str, str] | None = None) -> None:
    """Write a picture with its `texts`, by their keys, whole or not at all. UserError where the disk refuses."""
    info = PngInfo()
    for key, text in (texts or {}).items():
        info.add_text(key, text)  # as tEXt where Latin-1 has all its letters, else as iTXt
    try:
        with new_folders(path.parent), whole_file(path) as beside:
            # A start picture returned as it is would bring its own colour profile and EXIF along.
            image.save(beside, format="PNG", pnginfo=info, icc_profile=None, exif=None)
    except OSError as error:  # whole_file has words of its own
        raise UserError(f"cannot make the folder {path.parent} ({error.strerror}); name another --out") from None


def texts_of(model: LatentDiffusion, record: PictureRecord) -> dict[str, str]:
    """What a picture painted by `model` carries: its record as JSON, and its parameters as web UIs read them."""
    sampling = record.request.sampling
    parameters = parameters_of(record, model.plan_config(sampling.sampler, sampling.sigmas))
    return {METADATA_KEY: record.model_dump_json(), PARAMETERS_KEY: write_parameters(parameters)}


def read_texts(path: Path) -> dict[str, str]:
    """All texts in a PNG, by their keys; none in a picture of another format. UserError for what is no picture."""
    try:
        with Image.open(path) as image:
            return dict(getattr(image, "text", {}))
    except Exception as error:  # on damaged files Pillow's readers raise whatever their parsing meets
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path} ({reason}); give a PNG painted here") from None


def read_record(path: Path) -> PictureRecord:
    """How a picture was painted. UserError for a file that does not say."""
    text = read_texts(path).get(METADATA_KEY)
    if text is None:
        raise UserError(f"{path} carries no request; give a PNG painted here, with its metadata")
    return parse_record(text, str(path))
