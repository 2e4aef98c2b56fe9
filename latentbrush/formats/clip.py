"""CLIP's folder: transformers' own, with the tokeniser and the pixels' scale beside the network where they are known.

config.json   model.safetensors   preprocessor_config.json   vocab.json   merges.txt   tokenizer_config.json
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentbrush.conditioning import Tokenizer
from latentbrush.errors import UserError
from latentbrush.files import read_json, write_json
from latentbrush.formats.clip_configs import read_clip_config, write_clip_config
from latentbrush.formats.empty import without_memory
from latentbrush.formats.fields import Fields
from latentbrush.formats.keys import CLIP
from latentbrush.formats.links import refuse_links_out
from latentbrush.formats.replace import replaced_folder
from latentbrush.formats.shipped import resolve_clip
from latentbrush.formats.weights import load_weights, save_weights
from latentbrush.nn import CLIPModel

__all__ = ["PIXELS", "SIGNED", "CLIPParts", "PixelScale", "load_clip", "read_pixels", "save_clip"]

PIXELS = "preprocessor_config.json"
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class PixelScale:
    """What the image tower reads: (pixel / 255 - mean) / std for each channel. The defaults are OpenAI's."""

    mean: Triple = (0.48145466, 0.4578275, 0.40821073)
    std: Triple = (0.26862954, 0.26130258, 0.27577711)

    def __call__(self, pictures: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """uint8 (B, 3, h, w) -> `dtype`."""
        mean, std = (torch.tensor(v, device=pictures.device, dtype=dtype).view(3, 1, 1) for v in (self.mean, self.std))
        return (pictures.to(dtype) / 255.0 - mean) / std


SIGNED = PixelScale((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""[-1, 1], as the rest of the package has it; what we train with."""


@dataclass(frozen=True)
class CLIPParts:
    """A network with what is needed to ask it. `tokenizer` is None where the folder holds none."""

    network: CLIPModel
    tokenizer: Tokenizer | None
    pixels: PixelScale


def load_clip(directory: str | Path, *, dtype: torch.dtype = torch.float32) -> CLIPParts:
    """Read a folder of transformers' CLIPModel, or of `save_clip`, or a shipped CLIP's name, in eval mode.

    `dtype`: of all weights, whatever they are stored as. UserError for whatever is missing, broken, unknown
    or does not fit, the tokeniser aside, without which a folder is still whole.
    """
    path = resolve_clip(directory)
    refuse_links_out(path)
    config = read_clip_config(_fields(path / "config.json"))
    with without_memory():
        network = CLIPModel(config)
    load_weights(network, path, "model", CLIP, dtype)
    return CLIPParts(network.eval(), _read_tokenizer(path, network), read_pixels(path / PIXELS))


def save_clip(
    parts: CLIPParts, directory: str | Path, *, dtype: torch.dtype = torch.float32, overwrite: bool = False
) -> None:
    """Write a folder that `load_clip` and transformers' CLIPModel, CLIPTokenizer and CLIPImageProcessor open.

    `dtype`: float32 or float16, of the weights in the files. The folder appears whole or not at all.
    UserError for a folder that is there and not empty, unless `overwrite`, which replaces all of it.
    """
    network, tokenizer = parts.network, parts.tokenizer
    with replaced_folder(Path(directory), overwrite=overwrite, ours=("config.json",)) as new:
        # Without a tokeniser, two ids that any vocabulary has: they only describe.
        ids = {"bos_id": 0, "pad_id": 1} if tokenizer is None else _ids(tokenizer)
        write_json(new / "config.json", write_clip_config(network.config, **ids))
        write_json(new / PIXELS, _pixel_config(parts.pixels, network.config.vision.image_size))
        if tokenizer is not None:
            tokenizer.save(new)
        save_weights(network, new / "model.safetensors", CLIP, dtype)


def _fields(path: Path) -> Fields:
    return Fields(path, read_json(path))


def _ids(tokenizer: Tokenizer) -> dict[str, int]:
    return {"bos_id": tokenizer.bos_id, "pad_id": tokenizer.pad_id}


def _read_tokenizer(directory: Path, network: CLIPModel) -> Tokenizer | None:
    if not any((directory / name).is_file() for name in ("vocab.json", "tokenizer.json")):
        return None
    config = network.config
    tokenizer = Tokenizer.from_folder(directory, positions=config.text.max_positions)
    if tokenizer.vocab_size > config.text.vocab_size or tokenizer.max_length > config.text.max_positions:
        raise UserError(
            f"{directory}: the tokeniser has {tokenizer.vocab_size} tokens and length {tokenizer.max_length}, the "
            f"text tower {config.text.vocab_size} and {config.text.max_positions}; take both from one model"
        )
    if config.eos_id not in (None, tokenizer.eos_id):
        raise UserError(
            f"{directory}: eos_token_id is {config.eos_id}, but the tokeniser ends with {tokenizer.eos_id}; "
            "take both from one model"
        )
    return tokenizer


def read_pixels(path: Path) -> PixelScale:
    """The scale; what else the file says is how to resize, which here is the caller's to do."""
    if not path.is_file():
        return PixelScale()
    fields = _fields(path)
    fields.only("do_normalize", True)
    fields.only("do_rescale", True)
    scale = fields.number("rescale_factor", 1 / 255)
    if abs(scale * 255 - 1) > 1e-6:
        raise fields.wrong("rescale_factor", scale, "1/255")
    default = PixelScale()
    return PixelScale(_triple(fields, "image_mean", default.mean), _triple(fields, "image_std", default.std))


def _triple(fields: Fields, key: str, default: Triple) -> Triple:
    value = fields.numbers(key, default)
    if len(value) != 3:
        raise fields.wrong(key, list(value), "three numbers")
    if key == "image_std" and not all(v > 0 for v in value):
        raise fields.wrong(key, list(value), "three numbers above 0")
    return value[0], value[1], value[2]


def _pixel_config(pixels: PixelScale, side: int) -> dict[str, Any]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,  # Pillow's bicubic
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(pixels.mean),
        "image_std": list(pixels.std),
    }
