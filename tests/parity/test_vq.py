"""The VQ autoencoder agrees with diffusers' VQModel, in float64, on random weights read from its folder.

1e-9 relative to the largest number, as in test_networks.py; indices exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import VQModel
from safetensors.torch import load_file, save_file
from test_networks import close, noise
from tiny import randomise

from latentbrush.errors import UserError
from latentbrush.files import read_json, write_json
from latentbrush.formats import load_autoencoder, load_vq, save_vq

pytestmark = pytest.mark.capability("vq-autoencoder")

FACTOR, WEIGHTS = 4, "diffusion_pytorch_model.safetensors"
CHANGES: list[dict[str, Any]] = [
    {},
    {"latent_channels": 6, "vq_embed_dim": 2},
    {"mid_block_add_attention": False, "layers_per_block": 1},
    {"scaling_factor": 1.0},
    {"in_channels": 1, "out_channels": 1, "num_vq_embeddings": 5},
]


def tiny_vq(seed: int = 3, **changes: Any) -> VQModel:
    config = {
        "block_out_channels": (8, 16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "layers_per_block": 2,
        "norm_num_groups": 4,
        "num_vq_embeddings": 40,
        **changes,
    }
    autoencoder = VQModel(**config).eval()
    randomise(autoencoder, seed)
    return autoencoder


@pytest.mark.compatible("vq", "folder")
@pytest.mark.parametrize("changes", CHANGES)
def test_vq_autoencoder(changes: dict[str, Any], tmp_path: Path) -> None:
    theirs = tiny_vq(**changes)
    theirs.save_pretrained(tmp_path)
    ours = load_vq(tmp_path, dtype=torch.float64)
    theirs = theirs.double()
    scale = theirs.config.scaling_factor
    for height, width in [(32, 32), (16, 40)]:
        x = noise(2, ours.config.in_channels, height, width).clamp(-1, 1)
        z = noise(2, ours.config.latent_channels, height // FACTOR, width // FACTOR)
        with torch.no_grad():
            close(ours.encode(x), theirs.encode(x).latents * scale)
            decoded = theirs.decode(z / scale)
            close(ours.decode(z), decoded.sample)
            entries, loss, (_, _, indices) = theirs.quantize(z / scale)
            found = ours.quantise(z)
            close(found.latents, entries)
            assert torch.equal(found.indices.flatten(), indices)
            assert len(indices.unique()) > 2
            # Theirs weighs the term of the codebook by 0.25, as VQGAN's code did.
            close((found.commitment + 0.25 * found.codebook).mean(), loss)
            close(ours.decode_indices(found.indices), decoded.sample)


def test_gradients_pass_straight_through(tmp_path: Path) -> None:
    theirs = tiny_vq()
    theirs.save_pretrained(tmp_path)
    ours, theirs = load_vq(tmp_path, dtype=torch.float64).requires_grad_(True), theirs.double()
    x = noise(1, 3, 16, 16).clamp(-1, 1)
    z = ours.encode(x)
    found = ours.quantise(z)
    (ours.decode(z).square().mean() + (found.commitment + 0.25 * found.codebook).mean()).backward()
    out = theirs.decode(theirs.encode(x).latents)
    (out.sample.square().mean() + out.commit_loss).backward()
    close(ours.encoder.conv_in.weight.grad, theirs.encoder.conv_in.weight.grad)
    close(ours.codebook.weight.grad, theirs.quantize.embedding.weight.grad)


def test_more_cells_than_are_compared_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_vq().save_pretrained(tmp_path)
    ours, z = load_vq(tmp_path, dtype=torch.float64), noise(2, 3, 5, 7)
    whole = ours.quantise(z).indices
    monkeypatch.setattr("latentbrush.nn.vq.CELLS_AT_ONCE", 9)
    assert torch.equal(ours.quantise(z).indices, whole)


def _stated(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}


@pytest.mark.compatible("vq", "save")
@pytest.mark.parametrize("changes", CHANGES)
def test_what_we_save_is_what_diffusers_saved(changes: dict[str, Any], tmp_path: Path) -> None:
    tiny_vq(**changes).save_pretrained(tmp_path / "theirs")
    ours = load_vq(tmp_path / "theirs")
    save_vq(ours, tmp_path / "ours")
    first, second = load_file(tmp_path / "theirs" / WEIGHTS), load_file(tmp_path / "ours" / WEIGHTS)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    again, report = VQModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values())
    theirs = VQModel.from_pretrained(tmp_path / "theirs").config
    width = theirs.vq_embed_dim or theirs.latent_channels  # not stated, it is that of the latents
    assert _stated(again.config) == _stated(theirs) | {"vq_embed_dim": width}
    assert load_vq(tmp_path / "ours").config == ours.config


@pytest.mark.parametrize("part", ["vqvae", "vae"])
def test_the_folder_of_a_whole_model(part: str, tmp_path: Path) -> None:
    tiny_vq().save_pretrained(tmp_path / part)
    write_json(tmp_path / "model_index.json", {"_class_name": "LDMPipeline", part: ["diffusers", "VQModel"]})
    assert load_vq(tmp_path).config.codebook_size == 40


def test_old_names_of_the_attention(tmp_path: Path) -> None:
    tiny_vq().save_pretrained(tmp_path)
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old, z = {}, noise(1, 3, 8, 8)
    before = load_vq(tmp_path, dtype=torch.float64).decode(z)
    for key, tensor in load_file(tmp_path / WEIGHTS).items():
        for new, name in names.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{name}.")
        old[key] = tensor
    assert sum("proj_attn" in key for key in old) == 4
    save_file(old, tmp_path / WEIGHTS)
    assert torch.equal(load_vq(tmp_path, dtype=torch.float64).decode(z), before)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("_class_name", "AutoencoderKL", "_class_name 'AutoencoderKL' is not supported; only 'VQModel' is"),
        ("norm_type", "spatial", "norm_type 'spatial' is not supported; only 'group' is"),
        ("lookup_from_codebook", True, "lookup_from_codebook True is not supported; only False is"),
        ("down_block_types", ["AttnDownEncoderBlock2D"] * 3, "only 3 times DownEncoderBlock2D is"),
        ("out_channels", 4, "out_channels is 4, needed is 3, as in_channels"),
        ("num_vq_embeddings", 0, "autoencoder codebook_size 0 must be at least 1; correct it in that file"),
        ("num_vq_embeddings", 41, r"disagrees with config.json about the shape of 1 tensor: quantize.embedding.weight"),
        ("vq_embed_dim", "3", "vq_embed_dim is '3', needed is a whole number"),
        ("norm_num_groups", 3, "8 channels are not divisible by 3 norm groups"),
        ("remap", "used.npy", "remap 'used.npy' is unknown here"),
    ],
)
def test_what_is_not_a_vq_autoencoder_is_refused(field: str, value: Any, said: str, tmp_path: Path) -> None:
    tiny_vq().save_pretrained(tmp_path)
    config = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", config | {field: value})
    with pytest.raises(UserError, match=said):
        load_vq(tmp_path)


@pytest.mark.parametrize("change", ["missing", "unused"])
def test_weights_are_strict(change: str, tmp_path: Path) -> None:
    tiny_vq().save_pretrained(tmp_path)
    state = load_file(tmp_path / WEIGHTS)
    if change == "missing":
        del state["quantize.embedding.weight"]
    else:
        state["quantize.used"] = torch.zeros(3)
    save_file(state, tmp_path / WEIGHTS)
    said = "lacks 1 tensor: quantize.embedding.weight" if change == "missing" else "holds 1 tensor: quantize.used"
    with pytest.raises(UserError, match=said):
        load_vq(tmp_path)


def test_a_kl_autoencoder_is_not_read_from_it(tmp_path: Path) -> None:
    tiny_vq().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is unknown here and may change what the model computes"):
        load_autoencoder(tmp_path)


def test_shapes_that_do_not_fit(tmp_path: Path) -> None:
    tiny_vq().save_pretrained(tmp_path)
    ours = load_vq(tmp_path)
    with pytest.raises(ValueError, match=r"pictures of shape \(1, 3, 16, 18\) cannot be encoded"):
        ours.encode(torch.zeros(1, 3, 16, 18))
    with pytest.raises(ValueError, match=r"latents of shape \(1, 4, 2, 2\) cannot be decoded: need \(B, 3, h, w\)"):
        ours.decode(torch.zeros(1, 4, 2, 2))
    with pytest.raises(ValueError, match="each from 0 to 39"):
        ours.decode_indices(torch.full((1, 2, 2), 40))
