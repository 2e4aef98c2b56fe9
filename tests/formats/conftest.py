"""A tiny model of our own, and a saved copy of it to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from latentbrush.conditioning import TextConditioner, train_tokenizer
from latentbrush.formats import save_model
from latentbrush.model import LatentDiffusion, ModelDefaults
from latentbrush.nn import (
    AutoencoderConfig,
    AutoencoderKL,
    CLIPTextConfig,
    CLIPTextModel,
    UNet,
    UNetConfig,
)

AUTOENCODER = AutoencoderConfig(channels=(4, 8), layers_per_block=1, groups=4, sample_size=16)
UNET = UNetConfig(
    sample_size=8,
    channels=(8, 16),
    layers_per_block=1,
    attention=(True, False),
    heads=(2, 4),
    depth=(1, 1),
    context_width=12,
    groups=4,
)
TEXT = CLIPTextConfig(vocab_size=514, width=12, layers=1, heads=2, mlp_width=10, max_positions=8)


@pytest.fixture(scope="session")
def model() -> LatentDiffusion:
    autoencoder, unet, encoder = AutoencoderKL(AUTOENCODER), UNet(UNET), CLIPTextModel(TEXT)
    generator = torch.Generator().manual_seed(0)
    for network in (autoencoder, unet, encoder):
        for parameter in network.parameters():  # none left zero or one, where all would be alike
            parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return LatentDiffusion(
        autoencoder,
        unet,
        TextConditioner(train_tokenizer([], 514, 8), encoder),
        plan_options={"spacing": "trailing", "steps_offset": 1, "set_alpha_to_one": False, "eta": 0.5},
        defaults=ModelDefaults(steps=20, guidance=3.0, width=16, height=24),
    )


@pytest.fixture(scope="session")
def saved(model: LatentDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("saved") / "model"
    save_model(model, directory)
    return directory


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "model"))
