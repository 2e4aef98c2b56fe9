"""Pictures as PNG files that carry the request they were painted from."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import ValidationError

from latentbrush.errors import UserError, one_line
from latentbrush.files import new_folders, whole_file
from latentbrush.request import ImageRequest

__all__ = ["METADATA_KEY", "check_writable", "output_paths", "read_request", "save_picture"]

METADATA_KEY = "latentbrush"
"""The PNG text chunk that holds the request as JSON."""


def output_paths(out: Path | None, request: ImageRequest) -> list[Path]:
    """Where the pictures of a resolved request go, in order.

    `out` a PNG file: that file, or x-0.png, x-1.png, ... for more than one picture. A folder (out/ if None):
    names made of the prompt and the seed of each picture. UserError for another kind of file.
    """
    count, seed = request.sampling.count, request.sampling.seed
    assert seed is not None
    if out is None or out.is_dir() or not out.suffix:
        # 40 letters of up to 4 bytes: a file name holds 255 bytes.
        words = re.sub(r"\W+", "-", request.prompt).strip("-")[:40].strip("-") or "picture"
        return [(out or Path("out")) / f"{words}-{seed + i}.png" for i in range(count)]
    if out.suffix.lower() != ".png":
        raise UserError(f"cannot write {out}: pictures are PNG files; name it {out.with_suffix('.png')}")
    return [out] if count == 1 else [out.with_stem(f"{out.stem}-{i}") for i in range(count)]


def check_writable(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Before any work is done: UserError where a picture exists (unless `overwrite`) or cannot be written."""
    for path in paths:
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


def save_picture(
    image: Image.Image, path: Path, request: ImageRequest, *, index: int, steps_run: int | None = None
) -> None:
    """Write picture `index` of a resolved request, whole or not at all. UserError where the disk refuses.

    `steps_run`: how many of the request's steps painted it, all if None; a strength below 1 leaves some out.
    """
    info = PngInfo()
    info.add_itxt(METADATA_KEY, json.dumps(_metadata(request, index, steps_run), ensure_ascii=False))
    try:
        with new_folders(path.parent), whole_file(path) as beside:
            image.save(beside, format="PNG", pnginfo=info)
    except OSError as error:  # whole_file has words of its own
        raise UserError(f"cannot make the folder {path.parent} ({error.strerror}); name another --out") from None


def read_request(path: Path) -> ImageRequest:
    """The request a picture was painted from. UserError for a file without one."""
    try:
        with Image.open(path) as image:
            text = getattr(image, "text", {}).get(METADATA_KEY)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror or error}); give a PNG painted here") from None
    if text is None:
        raise UserError(f"{path} carries no request; give a PNG painted here, with its metadata")
    try:
        return ImageRequest.model_validate(json.loads(text)["request"])
    except ValidationError as error:
        raise UserError(f"the request in {path} is not one of version 1: {one_line(error)}") from None
    except (ValueError, KeyError, TypeError, RecursionError):  # not JSON, or JSON of another shape
        raise UserError(f"the request in {path} is damaged; give a PNG painted here, with its metadata") from None


def _metadata(request: ImageRequest, index: int, steps_run: int | None) -> dict[str, Any]:
    try:
        ours = version("latentbrush")
    except PackageNotFoundError:  # run from a checkout that is not installed
        ours = "unknown"
    return {
        "request": request.model_dump(mode="json"),
        "index": index,
        "steps_run": request.sampling.steps if steps_run is None else steps_run,
        "versions": {"latentbrush": ours, "torch": torch.__version__},
    }
