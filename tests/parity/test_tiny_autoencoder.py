"""The tiny autoencoder agrees with diffusers' AutoencoderTiny, in float64, on random weights read from its folder.

1e-9 relative to the largest number, as in test_networks.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file
from test_networks import close, noise
from tiny import randomise

from latentbrush.errors import UserError
from latentbrush.files import read_json, write_json
from latentbrush.formats import load_tiny_autoencoder, save_tiny_autoencoder

pytestmark = pytest.mark.capability("tiny-autoencoder")

WEIGHTS = "diffusion_pytorch_model.safetensors"
CHANGES: list[dict[str, Any]] = [
    {},
    {"encoder_block_out_channels": (4,) * 3, "latent_channels": 16},
    {"num_encoder_blocks": (0, 2, 1), "num_decoder_blocks": (2, 1, 0), "in_channels": 1, "out_channels": 1},
    {"scaling_factor": 0.7, "latent_magnitude": 4, "latent_shift": 0.25},
]


def tiny_taesd(seed: int = 5, **changes: Any) -> AutoencoderTiny:
    config = {
        "encoder_block_out_channels": (8,) * 3,
        "decoder_block_out_channels": (8,) * 3,
        "num_encoder_blocks": (1, 2, 2),
        "num_decoder_blocks": (2, 2, 1),
        **changes,
    }
    autoencoder = AutoencoderTiny(**config).eval()
    randomise(autoencoder, seed)
    return autoencoder


@pytest.mark.compatible("tiny-vae", "folder")
@pytest.mark.parametrize("changes", CHANGES)
def test_tiny_autoencoder(changes: dict[str, Any], tmp_path: Path) -> None:
    theirs = tiny_taesd(**changes)
    theirs.save_pretrained(tmp_path)
    ours = load_tiny_autoencoder(tmp_path, dtype=torch.float64)
    theirs, scale = theirs.double(), theirs.config.scaling_factor
    f = ours.config.factor
    assert f == 4
    for height, width in [(32, 32), (16, 40)]:
        x = noise(2, ours.config.in_channels, height, width).clamp(-1, 1)
        z = 3 * noise(2, ours.config.latent_channels, height // f, width // f)
        with torch.no_grad():
            close(ours.encode(x), theirs.encode(x).latents * scale)
            close(ours.decode(z), theirs.decode(z / scale).sample)


@pytest.mark.compatible("tiny-vae", "save")
@pytest.mark.parametrize("changes", CHANGES)
def test_what_we_save_is_what_diffusers_saved(changes: dict[str, Any], tmp_path: Path) -> None:
    tiny_taesd(**changes).save_pretrained(tmp_path / "theirs")
    ours = load_tiny_autoencoder(tmp_path / "theirs")
    save_tiny_autoencoder(ours, tmp_path / "ours")
    first, second = load_file(tmp_path / "theirs" / WEIGHTS), load_file(tmp_path / "ours" / WEIGHTS)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    again, report = AutoencoderTiny.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values())
    theirs = AutoencoderTiny.from_pretrained(tmp_path / "theirs")
    assert _stated(again.config) == _stated(theirs.config)
    assert load_tiny_autoencoder(tmp_path / "ours").config == ours.config


def _stated(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}


@pytest.mark.compatible("tiny-vae", "size")
def test_the_published_shape() -> None:
    """Ours and diffusers' defaults are TAESD's: 1.2 million parameters each way, named alike."""
    from latentbrush.nn import TinyAutoencoder, TinyConfig

    theirs, ours = AutoencoderTiny().state_dict(), TinyAutoencoder(TinyConfig()).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("_class_name", "AutoencoderKL", "_class_name 'AutoencoderKL' is not supported; only 'AutoencoderTiny' is"),
        ("act_fn", "gelu", "act_fn 'gelu' is not supported; only 'relu' is"),
        ("upsample_fn", "bilinear", "upsample_fn 'bilinear' is not supported"),
        ("upsampling_scaling_factor", 3, "upsampling_scaling_factor 3 is not supported"),
        ("shift_factor", 0.1, "shift_factor 0.1 is not supported"),
        ("out_channels", 4, "out_channels is 4, needed is 3, as in_channels"),
        ("encoder_block_out_channels", [8, 8], r"is \[8, 8\], needed is one number 3 times"),
        ("decoder_block_out_channels", [8, 16, 8], r"is \[8, 16, 8\], needed is one number 3 times"),
        ("num_decoder_blocks", [2, 2, 10**6], "needed is at most 1000 in all"),
        ("num_decoder_blocks", [2, -2, 1], r"decoder_blocks \(2, -2, 1\) must be numbers of at least 0"),
        ("num_decoder_blocks", [2, 2, 2], "lacks 8 tensors: decoder.layers"),
        ("scaling_factor", 0, "scaling_factor 0.0 must be finite and above 0"),
        ("mystery", 1, "mystery 1 is unknown here"),
    ],
)
def test_what_is_not_a_tiny_autoencoder_is_refused(field: str, value: Any, said: str, tmp_path: Path) -> None:
    tiny_taesd().save_pretrained(tmp_path)
    config = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", config | {field: value})
    with pytest.raises(UserError, match=said):
        load_tiny_autoencoder(tmp_path)


def test_levels_that_do_not_lead_back(tmp_path: Path) -> None:
    changes = {"num_decoder_blocks": (2, 2), "decoder_block_out_channels": (8, 8)}
    tiny_taesd(**changes).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="3 levels down and 2 up"):
        load_tiny_autoencoder(tmp_path)


def test_weights_are_strict(tmp_path: Path) -> None:
    tiny_taesd().save_pretrained(tmp_path)
    state = load_file(tmp_path / WEIGHTS)
    save_file(state | {"decoder.layers.99.weight": torch.zeros(3)}, tmp_path / WEIGHTS)
    with pytest.raises(UserError, match=r"holds 1 tensor: decoder\.layers\.99\.weight that config"):
        load_tiny_autoencoder(tmp_path)


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_no_folder(name: str) -> None:
    with pytest.raises(UserError, match=f"tiny autoencoder '{name}' is no folder"):
        load_tiny_autoencoder(name)


def test_shapes_that_do_not_fit(tmp_path: Path) -> None:
    tiny_taesd().save_pretrained(tmp_path)
    ours = load_tiny_autoencoder(tmp_path)
    with pytest.raises(ValueError, match=r"pictures of shape \(1, 3, 16, 18\) cannot be encoded"):
        ours.encode(torch.zeros(1, 3, 16, 18))
    with pytest.raises(ValueError, match=r"latents of shape \(1, 3, 2, 2\) cannot be decoded: need \(B, 4, h, w\)"):
        ours.decode(torch.zeros(1, 3, 2, 2))
