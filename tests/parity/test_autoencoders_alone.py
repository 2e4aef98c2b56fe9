"""Autoencoders and text towers alone: as diffusers and transformers save them, and as CompVis's single files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_pictures
import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from safetensors.torch import load_file, save_file
from test_pictures import PUBLISHED, compare, opened, wanted
from tiny import save_tiny_pipeline, tiny_autoencoder
from tiny_xl import tiny_second_tower
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from latentbrush import generate, load
from latentbrush.errors import UserError
from latentbrush.formats import convert, summarise_alone
from latentbrush.formats.summary import KIND_NAMES

pytestmark = [
    pytest.mark.capability("parts-alone"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

PREFIX = "first_stage_model."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    save_tiny_pipeline(folder)
    return folder


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another autoencoder for the same latents, by diffusers; without overflow in halves, as its file says."""
    folder = tmp_path_factory.mktemp("models") / "vae"
    tiny_autoencoder(seed=11, force_upcast=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bare(vae: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The same under CompVis's names."""
    written = convert(vae, tmp_path_factory.mktemp("file") / "vae.safetensors", to="single-file")
    return load_file(written.path)


def compvis(bare: dict[str, torch.Tensor], path: Path, kind: str) -> Path:
    """As such files are found: of torch.save or safetensors, prefixed or not, with what its training left."""
    beside = {"loss.logvar": torch.zeros(()), "loss.discriminator.main.0.weight": torch.zeros(2, 2)}
    counters = {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}
    if kind == "ckpt":
        torch.save({"state_dict": bare | beside | counters, "epoch": 3, "global_step": 840000}, path)
    elif kind == "old ckpt":
        torch.save(bare, path, _use_new_zipfile_serialization=False)
    elif kind == "prefixed":
        save_file({PREFIX + key: tensor for key, tensor in bare.items()}, path)
    else:
        save_file(bare | beside, path)
    return path


KINDS = ["ckpt", "old ckpt", "prefixed", "safetensors"]


def state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "diffusion_pytorch_model.safetensors")


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(tensor, second[key]) for key, tensor in first.items())


@pytest.mark.compatible("vae", "file")
def test_a_folder_becomes_a_file_that_diffusers_reads_and_comes_back(vae: Path, bare: Any, tmp_path: Path) -> None:
    levels = [None] * 3
    config = {"down_block_types": levels, "up_block_types": levels}
    prefixed = {PREFIX + key: tensor for key, tensor in bare.items()}
    assert equal(convert_ldm_vae_checkpoint(prefixed, config), state(vae))
    convert(vae, tmp_path / "vae.safetensors", to="single-file")
    convert(tmp_path / "vae.safetensors", tmp_path / "again", to="diffusers")
    assert equal(state(tmp_path / "again"), state(vae))
    assert json.loads((tmp_path / "again/config.json").read_text()) == json.loads((vae / "config.json").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_files_as_they_are_found(kind: str, vae: Path, bare: Any, tmp_path: Path) -> None:
    file = compvis(bare, tmp_path / "vae.file", kind)
    written = convert(file, tmp_path / "vae", to="diffusers", config=vae)
    assert written.tensors == len(bare)
    assert equal(state(tmp_path / "vae"), state(vae))
    again = AutoencoderKL.from_pretrained(tmp_path / "vae")
    assert again.config.force_upcast is False
    told = summarise_alone(file, config=vae)
    assert told is not None
    assert (told.part.name, told.part.kind) == ("vae", "KL autoencoder")
    assert told.part.parameters == sum(tensor.numel() for tensor in bare.values())
    assert told.facts["latents"] == "4 channels, f = 4"


def test_what_shapes_tell(tmp_path: Path) -> None:
    """Groups are 32 in all that were published; the scale is told by nothing."""
    widths = (32, 64)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    made = tiny_autoencoder(block_out_channels=widths, norm_num_groups=32, layers_per_block=1, **blocks)
    made.save_pretrained(tmp_path / "vae")
    written = convert(tmp_path / "vae", tmp_path / "vae.safetensors", to="single-file")
    file = compvis(load_file(written.path), tmp_path / "bare.safetensors", "safetensors")
    notes = convert(file, tmp_path / "told", to="diffusers").notes
    assert notes[0] == "an autoencoder, by its keys and shapes"
    assert notes[1].startswith("scaling_factor 0.18215 is assumed")
    assert equal(state(tmp_path / "told"), state(tmp_path / "vae"))
    config = AutoencoderKL.from_pretrained(tmp_path / "told").config
    assert (tuple(config.block_out_channels), config.layers_per_block, config.latent_channels) == (widths, 1, 4)
    with pytest.raises(UserError, match="which painting takes by --vae, not a whole model"):
        load(file)


@pytest.mark.capability("other-autoencoder")
@pytest.mark.parametrize("kind", ["folder", *KINDS])
def test_painted_by_another_autoencoder(kind: str, model: Path, vae: Path, bare: Any, tmp_path: Path) -> None:
    place = vae if kind == "folder" else compvis(bare, tmp_path / "vae.file", kind)
    request = wanted(2, 4.0, "a blue dog", 32, 32, count=2)
    mine = load(model, dtype=torch.float64, vae=place)
    pipeline = opened(model)
    own = test_pictures.theirs(pipeline, request)
    pipeline.vae = AutoencoderKL.from_pretrained(vae).double()
    found = test_pictures.ours(mine, request)
    compare(found, test_pictures.theirs(pipeline, request), PUBLISHED)
    assert np.abs(found[1] - own[1]).max() > 10
    [picture, _] = generate(mine, request)
    assert picture.request.model.vae == str(place)
    files = picture.record(mine).model.weights
    assert not any(name.startswith("vae/") for name in files)
    assert any(name.startswith("exchanged_vae/") for name in files)


@pytest.mark.capability("other-autoencoder")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"latent_channels": 8}, "the autoencoder has 8 latent channels, the model's autoencoder 4"),
        ({"in_channels": 1, "out_channels": 1}, "has 1 picture channels, the model's autoencoder 3"),
        ({"scaling_factor": 0.13025}, "scales its latents by 0.13025, the model's own by 0.18215"),
        (
            {
                "block_out_channels": (8, 16),
                "down_block_types": ("DownEncoderBlock2D",) * 2,
                "up_block_types": ("UpDecoderBlock2D",) * 2,
            },
            "has 2 pixels a latent cell, the model's autoencoder 4",
        ),
    ],
)
def test_an_autoencoder_of_other_latents(changes: dict[str, Any], said: str, model: Path, tmp_path: Path) -> None:
    tiny_autoencoder(**changes).save_pretrained(tmp_path / "vae")
    with pytest.raises(UserError, match=said):
        load(model, vae=tmp_path / "vae")


@pytest.mark.capability("other-autoencoder")
def test_what_is_no_autoencoder(model: Path, bare: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in (model / "text_encoder", model / "unet", tmp_path / "empty"):
        with pytest.raises(UserError, match="is no autoencoder; give a vae folder"):
            load(model, vae=place)
    with pytest.raises(UserError, match="does not exist"):
        load(model, vae=tmp_path / "nowhere")
    save_file({**bare, "novelty": torch.zeros(1)}, tmp_path / "more.safetensors")
    with pytest.raises(UserError, match="novelty, unknown in such a model"):
        load(model, vae=tmp_path / "more.safetensors")
    cut = dict(list(bare.items())[1:])
    save_file(cut, tmp_path / "cut.safetensors")
    with pytest.raises(UserError, match=r"cut\.safetensors"):
        load(model, vae=tmp_path / "cut.safetensors")
    for option in ({"weights": "ema"}, {"prediction": "epsilon"}):
        with pytest.raises(UserError, match="is for whole models"):
            convert(model / "vae", tmp_path / "x", to="diffusers", **option)  # type: ignore[arg-type]


def test_a_text_tower_alone(model: Path, tmp_path: Path) -> None:
    folder, file = model / "text_encoder", tmp_path / "text.safetensors"
    convert(folder, file, to="single-file")
    assert all(key.startswith("text_model.") for key in load_file(file))
    convert(file, tmp_path / "again", to="diffusers")
    towers = [CLIPTextModel.from_pretrained(path).state_dict() for path in (folder, tmp_path / "again")]
    assert equal(*towers)
    for path in (folder, file):
        told = summarise_alone(path)
        assert told is not None
        assert told.part.kind == "CLIP text tower"
        assert told.facts["context"] == "24 wide"
    assert summarise_alone(model) is None


@pytest.mark.parametrize("told", ["header", "shapes", "config"])
def test_a_projected_text_tower_alone(told: str, tmp_path: Path) -> None:
    """Stable Diffusion XL's second, key for key: a folder, a file, what transformers' own file says by itself."""
    folder, file = tmp_path / "text_encoder_2", tmp_path / "text.safetensors"
    tower = tiny_second_tower(600, num_attention_heads=1, hidden_act="gelu")
    tower.save_pretrained(folder)
    own = load_file(folder / "model.safetensors")
    if told == "header":
        assert convert(folder, file, to="single-file").tensors == len(own)
    else:
        save_file(own, file)
    config = folder if told == "config" else None
    assert equal(load_file(file), own)
    for path in (folder, file):
        found = summarise_alone(path, None if path == folder else config)
        assert found is not None
        assert (found.part.name, found.part.kind) == ("text_encoder_2", KIND_NAMES["text_encoder_2"])
    convert(file, tmp_path / "again", to="diffusers", config=config)
    convert(file, tmp_path / "file.safetensors", to="single-file", config=config)
    assert equal(load_file(tmp_path / "again" / "model.safetensors"), own)
    assert equal(load_file(tmp_path / "file.safetensors"), own)
    again = CLIPTextModelWithProjection.from_pretrained(tmp_path / "again").eval()
    tokens = torch.tensor([[3, 7, 599, 599, 599], [3, 599, 599, 599, 599]])
    assert torch.equal(again(tokens).text_embeds, tower(tokens).text_embeds)


def test_a_projection_of_another_shape(tmp_path: Path) -> None:
    tiny_second_tower(600).save_pretrained(tmp_path / "two")
    state = load_file(tmp_path / "two" / "model.safetensors")
    save_file(state | {"text_projection.weight": torch.zeros(3)}, tmp_path / "flat.safetensors")
    with pytest.raises(UserError, match=r"has no sound text_projection\.weight"):
        convert(tmp_path / "flat.safetensors", tmp_path / "x", to="diffusers")
    save_file(state | {"text_projection.weight": torch.zeros(3, 5)}, tmp_path / "narrow.safetensors")
    with pytest.raises(UserError, match=r"about the shape of 1 tensor: text_projection\.weight"):
        convert(tmp_path / "narrow.safetensors", tmp_path / "x", to="diffusers")
