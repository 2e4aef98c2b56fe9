"""latentbrush.json, beside diffusers' own files in a model's folder: what diffusers has no field for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentbrush.formats.network import fields_of
from latentbrush.model import ModelDefaults

__all__ = ["OURS", "read_ours", "written_ours"]

OURS = "latentbrush.json"


def read_ours(directory: Path) -> tuple[dict[str, Any], ModelDefaults | None]:
    """Plan options, and the defaults, if the file is there."""
    if not (directory / OURS).is_file():
        return {}, None
    fields = fields_of(directory / OURS)
    fields.only("format", 1)
    defaults = ModelDefaults(
        steps=fields.whole("steps"),
        guidance=fields.number("guidance"),
        width=fields.whole("width"),
        height=fields.whole("height"),
    )
    eta = fields.number("eta", 0.0)
    fields.done()
    return ({"eta": eta} if eta else {}), defaults


def written_ours(defaults: ModelDefaults, *, eta: float) -> dict[str, Any]:
    """What the file says."""
    return {
        "format": 1,
        "steps": defaults.steps,
        "guidance": defaults.guidance,
        "width": defaults.width,
        "height": defaults.height,
        "eta": eta,
    }
