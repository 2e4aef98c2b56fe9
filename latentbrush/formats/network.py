"""One network's folder: config.json beside its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from latentbrush.files import read_json, write_json
from latentbrush.formats.empty import without_memory
from latentbrush.formats.fields import Fields
from latentbrush.formats.keys import AUTOENCODER, CLIP_TEXT, CLIP_TEXT_PROJECTED, LDM_BERT, UNET, VQ, Names
from latentbrush.formats.weights import check_weights, load_weights, save_weights

__all__ = ["KINDS", "Fill", "fields_of", "filled_from", "place_of", "read_network", "write_network"]

DIFFUSERS_STEM, TRANSFORMERS_STEM = "diffusion_pytorch_model", "model"
KINDS: Mapping[str, tuple[str, Names]] = {
    "vae": (DIFFUSERS_STEM, AUTOENCODER),
    "vqvae": (DIFFUSERS_STEM, VQ),
    "unet": (DIFFUSERS_STEM, UNET),
    "text_encoder": (TRANSFORMERS_STEM, CLIP_TEXT),
    "text_encoder_2": (TRANSFORMERS_STEM, CLIP_TEXT_PROJECTED),
    "bert": (TRANSFORMERS_STEM, LDM_BERT),
    "class_token": (DIFFUSERS_STEM, Names(())),
}
"""Part of a model -> what its weights' files are called, and the names in them."""
ALONE: Mapping[str, tuple[str, Names]] = {
    "tiny_autoencoder": (DIFFUSERS_STEM, Names(())),
}
"""The same of networks that are read and written by themselves."""

FLAT: Mapping[str, str] = {"unet": "config.json", "scheduler": "scheduler_config.json"}
"""Parts that may lie in the model's own folder, and what of them lies there then: so the first DDPMs were published."""

Fill = Callable[[str, nn.Module], None]
"""Gives the network of a part its weights, or checks that it could."""
Network = TypeVar("Network", bound=nn.Module)
Config = TypeVar("Config")


def place_of(directory: Path, part: str) -> Path:
    """Where a part of the model in `directory` lies."""
    own = directory / part
    return directory if part in FLAT and not own.is_dir() and (directory / FLAT[part]).is_file() else own


def fields_of(path: Path) -> Fields:
    """A JSON file, to be read strictly."""
    return Fields(path, read_json(path))


def read_network(
    part: str,
    directory: Path,
    readers: tuple[Callable[[Fields], Config], Callable[[Config], Network]],
    fill: Fill,
) -> Network:
    """A network from its folder, in eval mode. Made without memory or initialisation, then filled.

    `part`: one of `KINDS` or `ALONE`; `readers`: from fields to config to network.
    """
    read_config, make = readers
    config = read_config(fields_of(directory / "config.json"))
    with without_memory():
        network = make(config)
    fill(part, network)
    return network.eval()


def filled_from(directory: Path, dtype: torch.dtype | None, *, alone: bool = False) -> Fill:
    """Weights from the parts' own folders in `directory`, or from that of one part `alone`.

    `dtype`: None to check that the files have all that a network wants, and leave it empty.
    """

    def fill(part: str, network: nn.Module) -> None:
        stem, names = KINDS[part] if part in KINDS else ALONE[part]
        place = directory if alone else place_of(directory, part)
        if dtype is None:
            check_weights(network, place, stem, names)
        else:
            load_weights(network, place, stem, names, dtype)

    return fill


def write_network(
    part: str, directory: Path, network: nn.Module, config: Mapping[str, Any], dtype: torch.dtype
) -> None:
    stem, names = KINDS[part] if part in KINDS else ALONE[part]
    directory.mkdir(exist_ok=True)
    write_json(directory / "config.json", config)
    save_weights(network, directory / f"{stem}.safetensors", names, dtype)
