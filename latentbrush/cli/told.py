"""What a picture's file says of how it was painted, and whether the pictures given are those that it names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latentbrush.errors import UserError

if TYPE_CHECKING:  # these import torch
    from latentbrush.formats import Parameters, Photo, PictureRecord

__all__ = ["check_further", "check_start", "told"]


def told(file: Path) -> PictureRecord | Parameters:
    """What the file says: our record, else a web UI's parameters, else ComfyUI's graph."""
    from latentbrush import formats

    texts = formats.read_texts(file)
    if formats.METADATA_KEY in texts:
        return formats.parse_record(texts[formats.METADATA_KEY], str(file))
    if texts.get(formats.PARAMETERS_KEY, "").strip():
        try:
            return formats.parse_parameters(texts[formats.PARAMETERS_KEY])
        except UserError as error:
            raise UserError(f"{file}: {error}") from None
    if formats.COMFYUI_KEY in texts:
        return formats.parse_comfyui(texts[formats.COMFYUI_KEY], str(file))
    raise UserError(f"{file} does not say how it was painted; give a PNG with its metadata")


def check_start(then: PictureRecord, file: Path, start: Photo | None) -> None:
    """UserError unless the picture to start from is there where one is needed, and is that one."""
    needed = then.request.start
    if start is None and needed.image is not None and (needed.strength < 1 or needed.mask is not None):
        raise UserError(
            f"{file} was painted over another picture, whose file has the SHA-256 {needed.image}; give it with --image"
        )
    if start is not None and needed.image is None:
        raise UserError(f"{file} was painted from noise, over no picture; leave out --image")
    if start is not None and start.sha256 != needed.image:
        raise UserError(
            f"--image is not the picture that {file} was painted over: its SHA-256 is {start.sha256}, needed is "
            f"{needed.image}; give the very file, not one saved anew"
        )


def check_further(needed: str | None, given: Photo | None, file: Path, option: str) -> None:
    """As `check_start`, for the picture of another option: `needed` is what the request names."""
    if given is None and needed is not None:
        raise UserError(
            f"{file} was painted with a {option}, whose file has the SHA-256 {needed}; give it with --{option}"
        )
    if given is not None and needed is None:
        raise UserError(f"{file} was painted without a {option}; leave out --{option}")
    if given is not None and given.sha256 != needed:
        raise UserError(
            f"--{option} is not the {option} that {file} was painted with: its SHA-256 is {given.sha256}, needed is "
            f"{needed}; give the very file, not one saved anew"
        )
