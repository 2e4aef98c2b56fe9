"""How the parts of a model are read from their configurations: part -> config.json -> our config -> network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from latentbrush.files import read_json
from latentbrush.formats import configs
from latentbrush.formats.bert import read_bert_config
from latentbrush.formats.class_token import read_class_token_config
from latentbrush.formats.clip_configs import read_projected_text_config
from latentbrush.formats.fields import Fields
from latentbrush.formats.index import Index
from latentbrush.formats.kinds import LDM_BERT
from latentbrush.formats.tiny_autoencoder import CLASS as TINY
from latentbrush.formats.tiny_autoencoder import read_tiny_config
from latentbrush.formats.unet2d import read_unet2d_config
from latentbrush.formats.vq import read_vq_config
from latentbrush.nn import (
    AutoencoderKL,
    ClassToken,
    CLIPTextModel,
    LDMBertModel,
    ProjectedTextModel,
    TinyAutoencoder,
    UNet,
    UNet2D,
    VQAutoencoder,
)

__all__ = ["PARTS", "Readers", "readers_in", "readers_of"]

Readers = tuple[Callable[[Fields], Any], Callable[[Any], nn.Module]]
PARTS: Mapping[str, Readers] = {
    "vae": (configs.read_autoencoder_config, AutoencoderKL),
    "vqvae": (read_vq_config, VQAutoencoder),
    "unet": (configs.read_unet_config, UNet),
    "text_encoder": (configs.read_text_config, CLIPTextModel),
    "text_encoder_2": (read_projected_text_config, ProjectedTextModel),
    "bert": (read_bert_config, LDMBertModel),
    "class_token": (read_class_token_config, ClassToken),
}


def readers_of(part: str, directory: Path) -> Readers:
    """Those of the part in a folder: of autoencoders there are two kinds, told by the configuration."""
    if part == "vae" and read_json(directory / "config.json").get("_class_name") == TINY:
        return read_tiny_config, TinyAutoencoder
    return PARTS[part]


def readers_in(directory: Path, index: Index) -> dict[str, Readers]:
    """Part -> its readers, of all networks in a model's folder: some names are of another network in some models."""
    readers = {part: readers_of(part, directory / part) for part in index.parts if part in PARTS}
    if index.kind is LDM_BERT:
        readers["vqvae"] = PARTS["vae"]
    if index.kind.reads == "nothing":
        readers["unet"] = (read_unet2d_config, UNet2D)
    return readers
