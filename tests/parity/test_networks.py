"""Networks agree with diffusers' and transformers', in float64, on random weights read from their folders.

1e-9 relative to the largest number throughout: both sides compute the same sums in float64, in another
order here and there. The UNet computes its time sinusoids in float32 on both sides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL as TheirAutoencoder
from tiny import FACTOR, MAX_LENGTH, WIDTH, Kind, tiny_autoencoder, tiny_text_encoder, tiny_unet
from torch import Tensor, nn

from latentbrush.files import read_json
from latentbrush.formats import load_autoencoder
from latentbrush.formats.configs import read_text_config, read_unet_config
from latentbrush.formats.fields import Fields
from latentbrush.formats.keys import CLIP_TEXT, UNET
from latentbrush.formats.weights import load_weights
from latentbrush.nn import CLIPTextModel, Condition, UNet

KINDS: list[Kind] = ["sd1", "sd2"]
UNETS: list[tuple[Kind, dict[str, Any]]] = [
    ("sd1", {}),
    ("sd2", {}),
    ("sd2", {"transformer_layers_per_block": [1, 2, 3]}),
    ("sd1", {"layers_per_block": 1, "flip_sin_to_cos": False, "freq_shift": 1}),
    (
        "sd1",
        {
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "block_out_channels": (16, 24),
            "attention_head_dim": [2, 3],
            "norm_eps": 1e-4,
        },
    ),
    ("sd2", {"only_cross_attention": [True, False, True]}),
    ("sd1", {"only_cross_attention": True}),
    ("sd1", {"in_channels": 9, "out_channels": 5, "upcast_attention": True}),
]
SIZES = [(8, 8), (8, 16), (7, 5), (12, 9)]


def close(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == expected.dtype == torch.float64
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= 1e-9 * float(expected.abs().max())


def noise(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def our_unet(theirs: nn.Module, directory: Path) -> UNet:
    theirs.save_pretrained(directory)
    unet = UNet(read_unet_config(Fields(directory / "config.json", read_json(directory / "config.json"))))
    load_weights(unet, directory, "diffusion_pytorch_model", UNET, torch.float64)
    return unet.eval()


@pytest.mark.capability("unet")
@pytest.mark.parametrize(("kind", "changes"), UNETS)
def test_unet(kind: Kind, changes: dict[str, Any], tmp_path: Path) -> None:
    theirs = tiny_unet(kind, **changes)
    ours = our_unet(theirs, tmp_path)
    theirs = theirs.double()
    t = torch.tensor([981.0, 3.25], dtype=torch.float64)
    for size in SIZES:
        x, context = noise(2, ours.config.in_channels, *size), noise(2, 6, WIDTH, seed=8)
        with torch.no_grad():
            close(ours(x, t, Condition(context)), theirs(x, t, context).sample)


@pytest.mark.capability("kl-autoencoder")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"latent_channels": 3, "layers_per_block": 1},
        {"mid_block_add_attention": False},
        {"use_quant_conv": False, "use_post_quant_conv": False},
        {"in_channels": 1, "out_channels": 1},
        {"scaling_factor": 0.9},
    ],
)
def test_autoencoder(changes: dict[str, Any], tmp_path: Path) -> None:
    theirs = tiny_autoencoder(**changes)
    theirs.save_pretrained(tmp_path)
    ours = load_autoencoder(tmp_path, dtype=torch.float64)
    theirs = theirs.double()
    scale = theirs.config.scaling_factor
    for height, width in [(32, 32), (16, 40)]:
        x = noise(2, ours.config.in_channels, height, width).clamp(-1, 1)
        z = noise(2, ours.config.latent_channels, height // FACTOR, width // FACTOR)
        with torch.no_grad():
            expected = theirs.encode(x).latent_dist
            found = ours.encode(x)
            close(found.mode(), expected.mean * scale)
            close(found.logvar.exp().sqrt(), expected.std * scale)
            close(ours.decode(z), theirs.decode(z / scale).sample)


@pytest.mark.capability("clip-text")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["", "text_model."])
def test_text_embeddings(kind: Kind, prefix: str, tmp_path: Path) -> None:
    theirs = tiny_text_encoder(kind, 600)
    theirs.save_pretrained(tmp_path)
    if prefix:
        from safetensors.torch import load_file, save_file

        path = tmp_path / "model.safetensors"
        old = {prefix + key: tensor for key, tensor in load_file(path).items()}
        old[prefix + "embeddings.position_ids"] = torch.arange(MAX_LENGTH)[None]
        save_file(old, path)
    ours = CLIPTextModel(read_text_config(Fields(tmp_path / "config.json", read_json(tmp_path / "config.json"))))
    load_weights(ours, tmp_path, "model", CLIP_TEXT, torch.float64)
    tokens = torch.randint(0, 600, (3, MAX_LENGTH), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        close(ours.eval()(tokens), theirs.double()(tokens).last_hidden_state)


@pytest.mark.capability("kl-autoencoder")
def test_an_autoencoder_with_the_old_names_of_its_attention(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    theirs = tiny_autoencoder()
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for key, tensor in load_file(path).items():
        for new, name in names.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{name}.")
        old[key] = tensor
    assert sum("proj_attn" in key for key in old) == 4
    save_file(old, path)
    z = noise(1, 4, 8, 8)
    theirs_again = TheirAutoencoder.from_pretrained(tmp_path).double()
    with torch.no_grad():
        found = load_autoencoder(tmp_path, dtype=torch.float64).decode(z)
        close(found, theirs.double().decode(z / 0.18215).sample)
        close(found, theirs_again.decode(z / 0.18215).sample)
