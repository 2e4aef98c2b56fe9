"""Networks of published size: as many parameters as published, and as diffusers' own class has of the same config.

All on the meta device, which counts without memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig as TheirTextConfig
from transformers import CLIPTextModelWithProjection

from latentbrush.formats.configs import read_unet_config, write_unet_config
from latentbrush.formats.fields import Fields
from latentbrush.nn import (
    AutoencoderConfig,
    AutoencoderKL,
    CLIPTextConfig,
    CLIPTextModel,
    ProjectedTextConfig,
    ProjectedTextModel,
    UNet,
    UNetConfig,
)

DOWN, CROSS_DOWN, UP, CROSS_UP = "DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"
SD2: dict[str, Any] = {
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
    "sample_size": 96,
}
XL: dict[str, Any] = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20],
    "block_out_channels": [320, 640, 1280],
    "cross_attention_dim": 2048,
    "down_block_types": [DOWN, CROSS_DOWN, CROSS_DOWN],
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
    "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": [CROSS_UP, CROSS_UP, UP],
    "use_linear_projection": True,
}
REFINER: dict[str, Any] = XL | {
    "attention_head_dim": [6, 12, 24, 24],
    "block_out_channels": [384, 768, 1536, 1536],
    "cross_attention_dim": 1280,
    "down_block_types": [DOWN, CROSS_DOWN, CROSS_DOWN, DOWN],
    "projection_class_embeddings_input_dim": 2560,
    "transformer_layers_per_block": 4,
    "up_block_types": [UP, CROSS_UP, CROSS_UP, UP],
}
# None: no figure published to two digits; diffusers' own is the measure.
UNETS: dict[str, tuple[dict[str, Any], float | None]] = {
    "sd1": ({"cross_attention_dim": 768}, 859.52),
    "sd1-inpainting": ({"cross_attention_dim": 768, "in_channels": 9}, None),
    "instruct-pix2pix": ({"cross_attention_dim": 768, "in_channels": 8}, None),
    "sd2": (SD2, 865.91),
    "sd2-depth": (SD2 | {"in_channels": 5}, None),
    "xl": (XL, 2567.46),
    "xl-inpainting": (XL | {"in_channels": 9}, None),
    "xl-refiner": (REFINER, None),
}
BIG_G: dict[str, Any] = {
    "hidden_act": "gelu",
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_attention_heads": 20,
    "num_hidden_layers": 32,
    "projection_dim": 1280,
    "vocab_size": 49408,
}


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.capability("unet")
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.compatible(name, "size")) for name in UNETS])
def test_unets(name: str) -> None:
    config, millions = UNETS[name]
    with torch.device("meta"):
        theirs = UNet2DConditionModel(**config)
        read = read_unet_config(Fields(Path("config.json"), {"sample_size": 64, **config}))
        ours = UNet(read)
    assert count(ours) == count(theirs)
    assert millions is None or round(count(ours) / 1e6, 2) == millions
    assert read_unet_config(Fields(Path("config.json"), write_unet_config(read))) == read


@pytest.mark.capability("sdxl-text")
def test_the_second_tower_of_stable_diffusion_xl() -> None:
    text = CLIPTextConfig(width=1280, layers=32, heads=20, mlp_width=5120, activation="gelu")
    with torch.device("meta"):
        ours = ProjectedTextModel(ProjectedTextConfig(text, 1280))
        theirs = CLIPTextModelWithProjection(TheirTextConfig(**BIG_G))
    assert count(ours) == count(theirs)
    assert round(count(ours) / 1e6, 2) == 694.66


@pytest.mark.compatible("vae", "size")
@pytest.mark.parametrize(
    ("make", "millions"),
    [
        (lambda: UNet(UNetConfig()), 859.52),
        (lambda: AutoencoderKL(AutoencoderConfig()), 83.65),
        (lambda: CLIPTextModel(CLIPTextConfig()), 123.06),
        # OpenCLIP's H/14 without its last layer, as Stable Diffusion 2 has it.
        (
            lambda: CLIPTextModel(CLIPTextConfig(width=1024, layers=23, heads=16, mlp_width=4096, activation="gelu")),
            340.39,
        ),
    ],
)
def test_defaults_are_stable_diffusions(make: Any, millions: float) -> None:
    with torch.device("meta"):
        network = make()
    assert round(count(network) / 1e6, 2) == millions
