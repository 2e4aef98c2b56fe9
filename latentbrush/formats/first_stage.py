"""The first stage's part of a model's folder: an autoencoder, KL or VQ, or none where pixels are diffused."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from latentbrush.formats import configs
from latentbrush.formats.index import Index
from latentbrush.formats.network import Fill, read_network, write_network
from latentbrush.formats.vq import PART, read_vq_config, write_vq_config
from latentbrush.nn import AutoencoderKL, FirstStage, PixelConfig, Pixels, VQAutoencoder

__all__ = ["AUTOENCODER_READERS", "read_first_stage", "stage_networks", "write_autoencoder", "write_first_stage"]

AUTOENCODER_READERS = (configs.read_autoencoder_config, AutoencoderKL)


def read_first_stage(directory: Path, index: Index, fill: Fill, sample_size: int) -> FirstStage:
    """That of a folder with these parts; `fill` gives it its weights. `sample_size`: the side of a model of pixels."""
    if "vae" in index.parts:
        return read_network("vae", directory / "vae", AUTOENCODER_READERS, fill)
    if index.reads_bert:
        return read_network(PART, directory / PART, AUTOENCODER_READERS, fill)
    if PART in index.parts:
        return read_network(PART, directory / PART, (read_vq_config, VQAutoencoder), fill)
    return Pixels(PixelConfig(sample_size=sample_size)).eval()


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
