"""An extractor by what the user names: a shipped CLIP, a folder, a file of Inception's weights or its program."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from latentbrush.errors import UserError
from latentbrush.evaluation.clip_extractor import DEFAULT_CLIP, CLIPExtractor
from latentbrush.evaluation.extractor import Extractor
from latentbrush.evaluation.inception_extractor import (
    InceptionExtractor,
    InceptionResize,
    ScriptedInception,
    is_torchscript,
)
from latentbrush.evaluation.vision_folder import VisionExtractor
from latentbrush.files import read_json
from latentbrush.formats import shipped_clips

__all__ = ["open_extractor"]


def open_extractor(
    name: str | Path = DEFAULT_CLIP,
    device: torch.device | str = "cpu",
    *,
    resize: InceptionResize = "tensorflow",
    classes: bool = True,
) -> Extractor:
    """What turns pictures into features, told by content, not by name.

    `name`: a shipped CLIP's; a folder of transformers, a CLIP's or any vision model's; a file of FID's Inception, its
    weights or NVIDIA's TorchScript program, which is run. `resize` and `classes` hold for Inception alone: by which
    published way pictures are resized, and whether IS is wanted (see `ScriptedInception`). UserError for what is none
    of these, and whatever is broken.
    """
    if str(name) in shipped_clips() and not isinstance(name, Path):
        return CLIPExtractor(str(name), device)
    path = Path(os.path.expanduser(name))
    if str(name) and path.is_file():
        if is_torchscript(path):
            return ScriptedInception(path, device, resize=resize, classes=classes)
        return InceptionExtractor(path, device, resize=resize)
    if not str(name) or not path.is_dir():
        names = ", ".join(shipped_clips()) or "none in this installation"
        raise UserError(
            f"features {str(name)!r} are no folder or file; give a shipped CLIP ({names}), a folder of transformers, "
            "or FID's Inception"
        )
    return _of_folder(path, device)


def _of_folder(path: Path, device: torch.device | str) -> Extractor:
    if (path / "model_index.json").is_file():
        raise UserError(f"{path} is a model that paints; give a CLIP's or a vision model's folder")
    kind = read_json(path / "config.json").get("model_type")
    if not isinstance(kind, str):
        raise UserError(f"{path / 'config.json'} states no model_type; give a folder of transformers")
    return CLIPExtractor(str(path), device) if kind == "clip" else VisionExtractor(path, device)
