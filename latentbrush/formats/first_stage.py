"""The first stage's part of a model's folder: an autoencoder, KL or VQ, or none where pixels are diffused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from latentbrush.errors import UserError
from latentbrush.formats import configs
from latentbrush.formats.fields import Fields
from latentbrush.formats.index import SUPER_RESOLUTION, UPSCALER, Index
from latentbrush.formats.network import Fill, read_network, write_network
from latentbrush.formats.vq import PART, read_vq_config, write_vq_config
from latentbrush.nn import AutoencoderConfig, AutoencoderKL, FirstStage, PixelConfig, Pixels, VQAutoencoder, VQConfig

__all__ = [
    "AUTOENCODER_READERS",
    "check_scale",
    "read_first_stage",
    "stage_networks",
    "write_autoencoder",
    "write_first_stage",
]

AUTOENCODER_READERS = (configs.read_autoencoder_config, AutoencoderKL)
SCALES: Mapping[str, float] = {UPSCALER: 0.08333, SUPER_RESOLUTION: 1.0}
"""Of the latents, where diffusers' pipeline takes this one whatever its folder says: early ones say nothing of it."""


def read_first_stage(directory: Path, index: Index, fill: Fill, sample_size: int) -> FirstStage:
    """That of a folder with these parts; `fill` gives it its weights. `sample_size`: the side of a model of pixels."""
    scale = SCALES.get(index.pipeline)

    def read_config(fields: Fields) -> AutoencoderConfig:
        config = configs.read_autoencoder_config(fields)
        return config if scale is None else replace(config, scaling_factor=scale)

    def read_vq(fields: Fields) -> VQConfig:
        config = read_vq_config(fields)
        return config if scale is None else replace(config, scaling_factor=scale)

    if "vae" in index.parts:
        return read_network("vae", directory / "vae", (read_config, AutoencoderKL), fill)
    if index.reads_bert:
        return read_network(PART, directory / PART, AUTOENCODER_READERS, fill)
    if PART in index.parts:
        return read_network(PART, directory / PART, (read_vq, VQAutoencoder), fill)
    return Pixels(PixelConfig(sample_size=sample_size)).eval()


def check_scale(index: Index, stage: FirstStage) -> None:
    """UserError for a scale of the latents that diffusers' pipeline would not take from the folder."""
    needed = SCALES.get(index.pipeline)
    if needed is not None and stage.config.scaling_factor != needed:
        raise UserError(
            f"the autoencoder's scaling factor is {stage.config.scaling_factor:g}, but {index.pipeline} always takes "
            f"{needed:g} and would paint other pictures; train the model with that"
        )


def stage_networks(stage: FirstStage, *, bert: bool) -> dict[str, nn.Module]:
    """Part -> network. `bert`: of LDM's text-to-image model, where all first stages have one name?"""
    if isinstance(stage, Pixels):
        return {}
    return {"vae" if isinstance(stage, AutoencoderKL) and not bert else PART: stage}


def write_first_stage(directory: Path, stage: FirstStage, dtype: torch.dtype, *, bert: bool) -> None:
    if isinstance(stage, AutoencoderKL):
        write_autoencoder(directory / (PART if bert else "vae"), stage, dtype)
    elif isinstance(stage, VQAutoencoder):
        write_network(PART, directory / PART, stage, write_vq_config(stage.config), dtype)


def write_autoencoder(directory: Path, autoencoder: AutoencoderKL, dtype: torch.dtype) -> None:
    write_network("vae", directory, autoencoder, configs.write_autoencoder_config(autoencoder.config), dtype)
