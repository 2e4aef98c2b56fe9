"""The UNet without words agrees with diffusers' UNet2DModel, in float64, on random weights read from its folder.

1e-9 relative to the largest number, as in test_networks.py: the same sums in another order.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file, save_file
from test_networks import close, noise
from tiny_wordless import tiny_unet2d

from latentbrush.errors import UserError
from latentbrush.files import read_json, write_json
from latentbrush.formats.fields import Fields
from latentbrush.formats.network import filled_from, read_network, write_network
from latentbrush.formats.unet2d import read_unet2d_config, write_unet2d_config
from latentbrush.nn import Condition, UNet2D

pytestmark = pytest.mark.capability("unet-without-words")

WEIGHTS = "diffusion_pytorch_model.safetensors"
# As the published DDPMs are: one head, halving that pads right and below alone, sines first.
DDPM = {"attention_head_dim": None, "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1}
# As the published consistency models are.
ADM = {
    "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "resnet_time_scale_shift": "scale_shift",
    "attn_norm_num_groups": 8,
    "num_class_embeds": 5,
}
CHANGES: list[dict[str, Any]] = [
    {},
    {**DDPM, "norm_eps": 1e-6},
    ADM,
    {"downsample_type": "resnet", "upsample_type": "resnet", "layers_per_block": 2},
    {"center_input_sample": True, "add_attention": False, "in_channels": 1, "out_channels": 2},
    {"num_class_embeds": 5, "dropout": 0.5, "attn_norm_num_groups": 2},
]


def ours_of(path: Path, dtype: torch.dtype = torch.float64) -> UNet2D:
    return read_network("unet", path, (read_unet2d_config, UNet2D), filled_from(path, dtype, alone=True))


@pytest.mark.parametrize("changes", CHANGES)
def test_it_says_what_diffusers_says(changes: dict[str, Any], tmp_path: Path) -> None:
    theirs = tiny_unet2d(**changes)
    theirs.save_pretrained(tmp_path)
    ours, theirs = ours_of(tmp_path), theirs.double()
    labels = torch.tensor([3, 1]) if changes.get("num_class_embeds") else None
    t = torch.tensor([981.0, 3.25], dtype=torch.float64)
    for height, width in [(8, 8), (16, 12)]:
        x = noise(2, theirs.config.in_channels, height, width)
        with torch.no_grad():
            expected = theirs(x, t, class_labels=labels).sample
            close(ours(x, t, Condition(torch.empty(2, 0, 0), labels)), expected)
            if labels is not None:
                other = ours(x, t, Condition(torch.empty(2, 0, 0), labels.flip(0)))
                assert float((other - expected).abs().max()) > 1e-3 * float(expected.abs().max())


def stated(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}


@pytest.mark.parametrize("changes", CHANGES)
def test_what_we_write_is_what_diffusers_wrote(changes: dict[str, Any], tmp_path: Path) -> None:
    tiny_unet2d(**changes).save_pretrained(tmp_path / "theirs")
    ours = ours_of(tmp_path / "theirs", torch.float32)
    write_network("unet", tmp_path / "ours", ours, write_unet2d_config(ours.config), torch.float32)
    first, second = load_file(tmp_path / "theirs" / WEIGHTS), load_file(tmp_path / "ours" / WEIGHTS)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    again, report = UNet2DModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values())
    assert stated(again.config) == stated(UNet2DModel.from_pretrained(tmp_path / "theirs").config)
    assert ours_of(tmp_path / "ours").config == ours.config


def test_old_names_of_the_attention(tmp_path: Path) -> None:
    """As google/ddpm-cifar10-32 and its kin were published."""
    tiny_unet2d(**DDPM).save_pretrained(tmp_path)
    x, t, nothing = noise(1, 3, 8, 8), torch.tensor([7.0]), Condition(torch.empty(1, 0, 0))
    before = ours_of(tmp_path)(x, t, nothing)
    old = {}
    for key, tensor in load_file(tmp_path / WEIGHTS).items():
        for new, name in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{name}.").replace(
                f"attentions.1.{new}.", f"attentions.1.{name}."
            )
        old[key] = tensor
    assert sum("proj_attn" in key for key in old) == 2 * 4  # on the way down once, up twice, and in the middle
    save_file(old, tmp_path / WEIGHTS)
    assert torch.equal(ours_of(tmp_path)(x, t, nothing), before)


CIFAR = {
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 32,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
LSUN = CIFAR | {
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "down_block_types": ["DownBlock2D"] * 4 + ["AttnDownBlock2D", "DownBlock2D"],
    "sample_size": 256,
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D"] + ["UpBlock2D"] * 4,
}
LDM = {"sample_size": 64, "attention_head_dim": 32}
SUPER_RESOLUTION = {
    "attention_head_dim": 32,
    "block_out_channels": [160, 320, 320, 640],
    "down_block_types": ["DownBlock2D"] + ["AttnDownBlock2D"] * 3,
    "in_channels": 6,
    "sample_size": 64,
    "up_block_types": ["AttnUpBlock2D"] * 3 + ["UpBlock2D"],
}
CONSISTENCY = {
    "attention_head_dim": 64,
    "attn_norm_num_groups": 32,
    "block_out_channels": [192, 384, 576, 768],
    "down_block_types": ["ResnetDownsampleBlock2D"] + ["AttnDownBlock2D"] * 3,
    "downsample_type": "resnet",
    "layers_per_block": 3,
    "num_class_embeds": 1000,
    "resnet_time_scale_shift": "scale_shift",
    "sample_size": 64,
    "up_block_types": ["AttnUpBlock2D"] * 3 + ["ResnetUpsampleBlock2D"],
    "upsample_type": "resnet",
}


@pytest.mark.parametrize(
    ("config", "parameters"),
    # None: no published figure known; diffusers' own is the measure.
    [(CIFAR, 35_746_307), (LSUN, 113_673_219), (LDM, None), (SUPER_RESOLUTION, None), (CONSISTENCY, None)],
    ids=["ddpm-cifar10-32", "ddpm-ema-celebahq-256", "ldm-celebahq-256", "ldm-super-resolution-4x", "cd-imagenet64"],
)
@pytest.mark.compatible("ddpm", "size")
@pytest.mark.compatible("ldm-unconditional", "size")
@pytest.mark.compatible("ldm-upscaling", "size")
def test_published_sizes(config: dict[str, Any], parameters: int | None) -> None:
    """Networks of published configurations, counted on the meta device."""
    with torch.device("meta"):
        theirs = UNet2DModel(**config)
        read = read_unet2d_config(Fields(Path("config.json"), config))
        ours = UNet2D(read)
    counted = sum(parameter.numel() for parameter in ours.parameters())
    assert counted == sum(parameter.numel() for parameter in theirs.parameters())
    assert parameters in (None, counted)
    assert read_unet2d_config(Fields(Path("config.json"), write_unet2d_config(read))) == read


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("_class_name", "UNet2DConditionModel", "only 'UNet2DModel' is"),
        ("time_embedding_type", "fourier", "'fourier' is not supported"),
        ("time_embedding_dim", 99, "99 is not supported"),
        ("class_embed_type", "timestep", "'timestep' is not supported"),
        ("mid_block_type", None, "None is not supported"),
        ("downsample_padding", 2, "2 is not supported"),
        ("upsample_type", "resnet", "upsample_type is 'resnet', needed is conv, as downsample_type"),
        ("down_block_types", ["DownBlock2D"] * 3, "must mirror the way down"),
        ("up_block_types", ["SkipUpBlock2D"] * 3, "block type 'SkipUpBlock2D' is not supported"),
        ("resnet_time_scale_shift", "scale_shift", "attn_norm_num_groups is None, needed is a number"),
        ("attention_head_dim", 3, "16 UNet channels are not divisible by the head width 3"),
        ("norm_num_groups", 3, "8 channels are not divisible by 3 norm groups"),
        ("attn_norm_num_groups", 3, "16 channels are not divisible by 3 norm groups"),
        ("sample_size", [8, 9], "needed is one number for all"),
        ("sample_size", None, "sample_size is None"),
        ("num_class_embeds", 0, "classes 0 must be at least 1"),
        ("something_new", 1, "something_new 1 is unknown here"),
        ("block_out_channels", [8, 16, 32], "lacks 2 tensors: down_blocks.2.resnets.0.conv_shortcut"),
        ("in_channels", 4, r"conv_in.weight \[8, 3, 3, 3\] instead of \[8, 4, 3, 3\]"),
        ("layers_per_block", 2, "down_blocks.0.resnets.1"),
    ],
)
def test_what_it_cannot_be_is_refused(field: str, value: Any, said: str, tmp_path: Path) -> None:
    tiny_unet2d().save_pretrained(tmp_path)
    write_json(tmp_path / "config.json", read_json(tmp_path / "config.json") | {field: value})
    with pytest.raises(UserError, match=said) as caught:
        ours_of(tmp_path)
    assert str(tmp_path) in str(caught.value)
