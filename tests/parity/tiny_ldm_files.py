"""Tiny single files of LDM's class-conditional and inpainting models: random weights under CompVis's keys, and the
folders of settings that describe them. The oracles are diffusers' own networks with the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel, UNet2DModel, VQModel
from diffusers.models.attention_processor import Attention
from test_vq import tiny_vq
from tiny import randomise
from torch import Tensor, nn

from latentbrush.formats.ldm_families import LDMFamily, write_ldm_family
from latentbrush.nn import ClassTokenConfig, UNet2DConfig, UNetConfig, VQConfig

CLASSES, WIDTH, HEADS = 7, 12, 2
STAGE = VQConfig(channels=(8, 16, 16), groups=4, codebook_size=40, sample_size=32)
TOKEN_UNET = UNetConfig(
    sample_size=8,
    in_channels=3,
    out_channels=3,
    channels=(16, 32, 32),
    attention=(False, True, True),
    heads=(1, 1, 1),
    depth=(1, 1, 1),
    context_width=WIDTH,
    groups=8,
)
INPAINTING_UNET = UNet2DConfig(
    sample_size=8,
    in_channels=7,
    channels=(16, 32, 32),
    attention=(False, True, True),
    residual=(True, True, True),
    heads=HEADS,
    symmetric=True,
    groups=8,
    norm_eps=1e-5,
    flip_sin_to_cos=True,
    freq_shift=0.0,
)


def shrunk(family: LDMFamily, directory: Path, **changes: Any) -> Path:
    """The settings of a family, with tiny networks instead of its own."""
    directory.mkdir()
    write_ldm_family(replace(family, **changes), directory, "epsilon", None)
    return directory


def their_vq(seed: int = 3, **changes: Any) -> VQModel:
    return tiny_vq(seed, scaling_factor=1.0, **changes)


def their_token_unet(seed: int = 1) -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        block_out_channels=(16, 32, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        cross_attention_dim=WIDTH,
        attention_head_dim=1,  # which means the number of heads
    ).eval()
    randomise(unet, seed)
    return unet


def their_inpainting_unet(seed: int = 1) -> UNet2DModel:
    """With two heads on every level: the class knows widths of heads alone."""
    unet = UNet2DModel(
        sample_size=8,
        in_channels=7,
        out_channels=3,
        block_out_channels=(16, 32, 32),
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        downsample_type="resnet",
        upsample_type="resnet",
        attention_head_dim=None,
        norm_num_groups=8,
    ).eval()
    for module in unet.modules():
        if isinstance(module, Attention):
            module.heads = HEADS
    randomise(unet, seed)
    return unet


def table(seed: int = 5) -> Tensor:
    return torch.randn(CLASSES + 1, WIDTH, generator=torch.Generator().manual_seed(seed))


def state(network: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.detach().clone() for key, tensor in network.state_dict().items()}


TINY_TOKENS: dict[str, Any] = {
    "unet": TOKEN_UNET,
    "stage": STAGE,
    "told": ClassTokenConfig(classes=CLASSES, width=WIDTH),
}
