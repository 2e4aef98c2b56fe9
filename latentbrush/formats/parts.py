"""How the parts of a model are read from their configurations: part -> config.json -> our config -> network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from latentbrush.files import read_json
from latentbrush.formats import configs
from latentbrush.formats.clip_configs import read_projected_text_config
from latentbrush.formats.fields import Fields
from latentbrush.formats.tiny_autoencoder import CLASS as TINY
from latentbrush.formats.tiny_autoencoder import read_tiny_config
from latentbrush.nn import AutoencoderKL, CLIPTextModel, ProjectedTextModel, TinyAutoencoder, UNet

__all__ = ["PARTS", "Readers", "readers_of"]

Readers = tuple[Callable[[Fields], Any], Callable[[Any], nn.Module]]
PARTS: Mapping[str, Readers] = {
    "vae": (configs.read_autoencoder_config, AutoencoderKL),
    "unet": (configs.read_unet_config, UNet),
    "text_encoder": (configs.read_text_config, CLIPTextModel),
    "text_encoder_2": (read_projected_text_config, ProjectedTextModel),
}


def readers_of(part: str, directory: Path) -> Readers:
    """Those of the part in a folder: of autoencoders there are two kinds, told by the configuration."""
    if part == "vae" and read_json(directory / "config.json").get("_class_name") == TINY:
        return read_tiny_config, TinyAutoencoder
    return PARTS[part]
