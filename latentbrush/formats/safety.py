"""A model's safety checker: diffusers' StableDiffusionSafetyChecker, and how feature_extractor/ scales pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.files import read_json
from latentbrush.formats.clip import PIXELS, PixelScale, read_pixels
from latentbrush.formats.clip_configs import read_vision_config, tower_fields
from latentbrush.formats.empty import without_memory
from latentbrush.formats.fields import Fields
from latentbrush.formats.keys import SAFETY
from latentbrush.formats.links import refuse_links_out
from latentbrush.formats.opening import single_file
from latentbrush.formats.shipped import resolve_model
from latentbrush.formats.weights import find_weights, load_weights
from latentbrush.model import LatentDiffusion
from latentbrush.nn import SafetyChecker, SafetyConfig
from latentbrush.origin import Origin

__all__ = ["SafetyCheck", "load_safety_check", "read_safety_config", "with_safety_check"]

CHECKER, EXTRACTOR, STEM = "safety_checker", "feature_extractor", "model"
BICUBIC = 3
"""Pillow's number of that filter."""


@dataclass(frozen=True)
class SafetyCheck:
    """The network, and how a picture becomes what it reads: its shorter side `side` pixels, the middle, scaled."""

    network: SafetyChecker
    side: int
    pixels: PixelScale

    def prepared(self, pictures: Sequence[Image.Image]) -> Tensor:
        """RGB pictures of any size -> (B, 3, s, s), in the network's type."""
        crop, weight = self.network.config.vision.image_size, self.network.concept_embeds
        cut = np.stack([np.asarray(_middle(_smaller(picture, self.side), crop)) for picture in pictures])
        return self.pixels(torch.from_numpy(cut).permute(0, 3, 1, 2), weight.dtype).to(weight.device)

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Image.Image]) -> list[bool]:
        """Which of the pictures it flags."""
        return [bool(flag) for flag in self.network(self.prepared(pictures))]


def _smaller(picture: Image.Image, side: int) -> Image.Image:
    """Its shorter side `side` pixels, the longer rounded down, as transformers has it."""
    short, long = sorted(picture.size)
    other = side * long // short
    return picture.resize((side, other) if picture.width <= picture.height else (other, side), Image.Resampling.BICUBIC)


def _middle(picture: Image.Image, side: int) -> Image.Image:
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def with_safety_check(model: LatentDiffusion, name: str | Path) -> LatentDiffusion:
    """The model itself, which can check its pictures from now on by the safety_checker of the folder `name`.

    The checker computes in float32, whatever the model does (but for float64), so that no rounding decides.
    UserError where the model has none, or none that is sound.
    """
    folder = None if single_file(name) is not None else resolve_model(name)
    if folder is None or not (folder / CHECKER).is_dir():
        raise UserError(
            f"the model {str(name)!r} has no {CHECKER}; paint without the safety check (--safety-check), or give a "
            "folder with one"
        )
    dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
    check = load_safety_check(folder, dtype=dtype)
    if not model.is_low_memory:
        check.network.to(model.device)
    files = [*find_weights(folder / CHECKER, STEM), folder / CHECKER / "config.json", folder / EXTRACTOR / PIXELS]
    model.safety_check, model.safety_origin = check, Origin(folder, [f for f in files if f.is_file()], [], None)
    return model


def load_safety_check(folder: Path, *, dtype: torch.dtype = torch.float32) -> SafetyCheck:
    """From a model's folder. UserError for whatever is missing, broken, unknown or does not fit."""
    refuse_links_out(folder, (CHECKER, EXTRACTOR))
    path = folder / CHECKER / "config.json"
    config = read_safety_config(Fields(path, read_json(path)))
    with without_memory():
        network = SafetyChecker(config)
    load_weights(network, folder / CHECKER, STEM, SAFETY, dtype)
    size = config.vision.image_size
    path = folder / EXTRACTOR / PIXELS
    if not path.is_file():
        return SafetyCheck(network.eval(), size, PixelScale())
    fields = Fields(path, read_json(path))
    fields.only("do_resize", True)
    fields.only("do_center_crop", True)
    fields.only("resample", BICUBIC)
    side, crop = _side(fields, "size", size), _side(fields, "crop_size", size)
    if crop != size or side < crop:
        raise UserError(
            f"{path}: size {side} and crop_size {crop} do not make the {size} pixels that the {CHECKER} reads; "
            "take both folders from one model"
        )
    return SafetyCheck(network.eval(), side, read_pixels(path))


def _side(fields: Fields, key: str, default: int) -> int:
    """One number of pixels: as such, as shortest_edge, or as height and width that agree."""
    value: Any = fields.raw(key, default)
    if not isinstance(value, dict):
        return fields.whole(key, default)
    within = fields.section(key)
    if "shortest_edge" in value:
        return within.whole("shortest_edge")
    height, width = within.whole("height"), within.whole("width")
    if height != width:
        raise fields.wrong(key, value, "one number for both sides")
    return height


def read_safety_config(fields: Fields) -> SafetyConfig:
    """transformers' CLIPConfig, of which the checker has no text tower. UserError as `read_vision_config`."""
    fields.only("model_type", "clip")
    vision = read_vision_config(tower_fields(fields, "vision_config"))
    try:
        return SafetyConfig(vision=vision, projection=fields.whole("projection_dim", 512))
    except ValueError as error:
        raise UserError(f"{fields.path}: {error}; correct it in that file") from None
