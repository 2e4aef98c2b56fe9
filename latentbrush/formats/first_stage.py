"""The first stage's part of a model's folder: an autoencoder, KL or VQ, or none where pixels are diffused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from latentbrush.errors import UserError
from latentbrush.formats import configs
from latentbrush.formats.fields import Fields
from latentbrush.formats.index import INDEX, Index
from latentbrush.formats.kinds import LDM_BERT, Kind
from latentbrush.formats.network import Fill, read_network, write_network
from latentbrush.formats.parts import readers_of
from latentbrush.formats.pipelines import SUPER_RESOLUTION, UPSCALER
from latentbrush.formats.tiny_autoencoder import write_tiny_config
from latentbrush.formats.vq import PART, read_vq_config, write_vq_config
from latentbrush.nn import AutoencoderKL, FirstStage, PixelConfig, Pixels, TinyAutoencoder, VQAutoencoder, VQConfig

__all__ = [
    "AUTOENCODER_READERS",
    "check_class",
    "check_scale",
    "read_first_stage",
    "stage_networks",
    "write_autoencoder",
    "write_first_stage",
]

CLASSES: Mapping[type, str] = {
    AutoencoderKL: "AutoencoderKL",
    TinyAutoencoder: "AutoencoderTiny",
    VQAutoencoder: "VQModel",
}
"""What diffusers calls them."""
AUTOENCODER_READERS = (configs.read_autoencoder_config, AutoencoderKL)
SCALES: Mapping[str, float] = {UPSCALER: 0.08333, SUPER_RESOLUTION: 1.0}
"""Of the latents, where diffusers' pipeline takes this one whatever its folder says: early ones say nothing of it."""


def read_first_stage(directory: Path, index: Index, fill: Fill, sample_size: int) -> FirstStage:
    """That of a folder with these parts; `fill` gives it its weights. `sample_size`: the side of a model of pixels."""
    scale = SCALES.get(index.pipeline)
    vae = directory / "vae"

    def read_config(fields: Fields) -> Any:
        config = read_vae(fields)
        return config if scale is None else replace(config, scaling_factor=scale)

    def read_vq(fields: Fields) -> VQConfig:
        config = read_vq_config(fields)
        return config if scale is None else replace(config, scaling_factor=scale)

    if "vae" in index.parts:
        read_vae, make = readers_of("vae", vae)
        stage = read_network("vae", vae, (read_config, make), fill)
        assert isinstance(stage, AutoencoderKL | TinyAutoencoder)
        _check_kind(directory, index, stage)
        return stage
    if index.kind is LDM_BERT:
        return read_network(PART, directory / PART, AUTOENCODER_READERS, fill)
    if PART in index.parts:
        return read_network(PART, directory / PART, (read_vq, VQAutoencoder), fill)
    return Pixels(PixelConfig(sample_size=sample_size)).eval()


def _check_kind(directory: Path, index: Index, autoencoder: AutoencoderKL | TinyAutoencoder) -> None:
    if index.tiny != isinstance(autoencoder, TinyAutoencoder):
        said = "AutoencoderTiny" if index.tiny else "AutoencoderKL"
        raise UserError(f"{directory / INDEX}: vae is an {said}, but vae/config.json is of the other kind; correct it")


def check_scale(index: Index, stage: FirstStage) -> None:
    """UserError for a scale of the latents that diffusers' pipeline would not take from the folder."""
    needed = SCALES.get(index.pipeline)
    if needed is not None and stage.config.scaling_factor != needed:
        raise UserError(
            f"the autoencoder's scaling factor is {stage.config.scaling_factor:g}, but {index.pipeline} always takes "
            f"{needed:g} and would paint other pictures; train the model with that"
        )


def check_class(index: Index, stage: FirstStage) -> None:
    """UserError for a first stage that the pipeline has no place for, as one exchanged for the model's own may be."""
    written = CLASSES.get(type(stage))
    known = [
        name for part in ("vae", PART) if part in index.parts for name in index.kind.classes.get(part, ("", ()))[1]
    ]
    if written is not None and written not in known:
        raise UserError(
            f"the first stage is an {written}, which {index.pipeline} has no place for; save the model with its own"
        )


def stage_networks(stage: FirstStage, kind: Kind) -> dict[str, nn.Module]:
    """Part -> network, in a folder of this kind: LDM's text-to-image model has one name for all first stages."""
    if isinstance(stage, Pixels):
        return {}
    named_vae = isinstance(stage, AutoencoderKL | TinyAutoencoder) and kind is not LDM_BERT
    return {"vae" if named_vae else PART: stage}


def write_first_stage(directory: Path, stage: FirstStage, kind: Kind, dtype: torch.dtype) -> None:
    if isinstance(stage, AutoencoderKL):
        [part] = stage_networks(stage, kind)
        write_autoencoder(directory / part, stage, dtype)
    elif isinstance(stage, TinyAutoencoder):
        write_network("vae", directory / "vae", stage, write_tiny_config(stage.config), dtype)
    elif isinstance(stage, VQAutoencoder):
        write_network(PART, directory / PART, stage, write_vq_config(stage.config), dtype)


def write_autoencoder(directory: Path, autoencoder: AutoencoderKL, dtype: torch.dtype) -> None:
    write_network("vae", directory, autoencoder, configs.write_autoencoder_config(autoencoder.config), dtype)
