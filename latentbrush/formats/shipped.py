"""The models that come with the package, by name."""

from __future__ import annotations

import os
from pathlib import Path

from latentbrush.errors import UserError

__all__ = ["resolve_clip", "resolve_model", "shipped_clips", "shipped_models"]

MODELS = Path(__file__).parents[1] / "models"


def shipped_models() -> dict[str, Path]:
    """Name -> folder of every model that comes with the package."""
    return {path.parent.name: path.parent for path in sorted(MODELS.glob("*/model_index.json"))}


def shipped_clips() -> dict[str, Path]:
    """Name -> folder of every CLIP that comes with the package, to score what the model beside it paints."""
    return {path.parent.name: path.parent for path in sorted(MODELS.glob("*/preprocessor_config.json"))}


def resolve_clip(clip: str | Path) -> Path:
    """The folder of a shipped CLIP's name, or of a path. UserError for what is neither."""
    shipped = shipped_clips()
    if str(clip) in shipped and not isinstance(clip, Path):
        return shipped[clip]
    path = Path(clip)
    if not path.is_dir():
        names = ", ".join(shipped) or "none in this installation"
        raise UserError(f"{str(clip)!r} is no folder; give one of transformers' CLIPModel or a shipped one ({names})")
    return path


def resolve_model(model: str | Path) -> Path:
    """The folder of a shipped model's name, or of a path.

    A name that is shipped means the shipped model; a folder of that name is meant by ./name. UserError,
    with the names there are, for what is neither.
    """
    shipped = shipped_models()
    names = ", ".join(shipped) or "none in this installation"
    if not str(model):  # Path("") would be the current folder
        raise UserError(f"model '' has no letters; give a diffusers folder or a shipped model ({names})")
    if str(model) in shipped and not isinstance(model, Path):
        return shipped[model]
    path = Path(os.path.expanduser(model))  # Path's own raises for a ~name without a home
    if not path.is_dir():
        there = "is no folder" if os.path.lexists(path) else "does not exist"  # a device, a link that leads nowhere
        what = "is a file, not a folder" if path.is_file() else there
        if str(model) in shipped_clips():
            what = "ships as a CLIP, which scores pictures and paints none"
        raise UserError(
            f"model {str(model)!r} {what}; give a diffusers folder, a single file or a shipped model ({names})"
        )
    return path
