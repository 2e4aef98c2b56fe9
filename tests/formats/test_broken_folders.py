"""Every way a model's folder can be broken is an error that names the file, the value and what would do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from spoiling import UNET_WEIGHTS, edit, fails, reweigh
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.formats import load_autoencoder, load_model

pytestmark = pytest.mark.capability("strict-loading")


@pytest.mark.parametrize(
    "file",
    [
        "model_index.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
        "latentbrush.json",
        "tokenizer/vocab.json",
        "tokenizer/tokenizer_config.json",
    ],
)
def test_json_that_is_none(file: str, folder: Path) -> None:
    for content in (b"", b"{", b"\xff\xfe", b"[" * 100_000):
        (folder / file).write_bytes(content)
        fails(folder, str(folder / file), "cannot be read as JSON", "again")
    (folder / file).write_text("[1, 2]")
    fails(folder, str(folder / file), "JSON list", "object")
    if file != "latentbrush.json" and not file.startswith("tokenizer/"):
        (folder / file).unlink()
        fails(folder, file.rpartition("/")[2])


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_part_that_is_missing(part: str, folder: Path) -> None:
    shutil.rmtree(folder / part)
    fails(folder, f"{folder / part}")


def test_no_model_at_all(tmp_path: Path) -> None:
    fails(tmp_path, "has no model_index.json (but nothing)", "give the folder")
    (tmp_path / "picture.png").write_text("")
    fails(tmp_path, "has no model_index.json (but picture.png)")
    fails(tmp_path / "nowhere", "nowhere' does not exist", "diffusers folder, a single file or a shipped model")
    with pytest.raises(UserError, match=r"config.json is missing"):
        load_autoencoder(tmp_path)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"unet": ["diffusers", "UNet2DModel"]}, ["unet", "UNet2DModel", "UNet2DConditionModel"]),
        ({"vae": ["diffusers", "VQModel"]}, ["vae", "VQModel", "AutoencoderKL"]),
        ({"text_encoder": ["transformers", "T5EncoderModel"]}, ["T5EncoderModel", "CLIPTextModel"]),
        ({"tokenizer": [None, None]}, ["tokenizer", "CLIPTokenizer or CLIPTokenizerFast"]),
        ({"text_encoder": ["os", "CLIPTextModel"]}, ["text_encoder", "'os'"]),
        ({"text_encoder_2": ["transformers", "CLIPTextModel"]}, ["text_encoder_2", "CLIPTextModelWithProjection"]),
        ({"scheduler": "DDIMScheduler"}, ["scheduler is 'DDIMScheduler'", "a library and a class"]),
        ({"scheduler": ["diffusers", "VQDiffusionScheduler"]}, ["VQDiffusionScheduler", "PNDM", "--sampler ddim|"]),
    ],
)
def test_parts_of_other_classes(changes: dict[str, Any], parts: list[str], folder: Path) -> None:
    edit(folder / "model_index.json", changes)
    fails(folder, "model_index" if "VQD" not in str(changes) else "scheduler_config", *parts)


def test_parts_that_change_nothing(folder: Path) -> None:
    checker = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    edit(folder / "model_index.json", {"safety_checker": checker, "anything_else": [None, None]})
    load_model(folder)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("latentbrush.json", {"steps": 0}, "default steps is 0; choose at least 1"),
        ("latentbrush.json", {"steps": "many"}, "steps is 'many', needed is a whole number"),
        ("latentbrush.json", {"width": 17}, "size 17x24 does not fit: both sides must be multiples of 2 pixels"),
        ("latentbrush.json", {"format": 2}, "format 2 is not supported; only 1 is"),
        ("latentbrush.json", {"eta": 7}, "eta is 7.0; choose a number from 0"),
        ("latentbrush.json", {"mood": "good"}, "mood 'good' is unknown"),
        ("latentbrush.json", {"guidance": float("inf")}, "guidance is inf, needed is a finite number"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 9}, "9 exceeds the text tower's 8 positions"),
        (
            "tokenizer/tokenizer_config.json",
            {"added_tokens_decoder": {"514": {"content": "<cat>"}}},
            "the tokeniser knows 515 tokens, the text tower 514",
        ),
    ],
)
def test_parts_that_do_not_fit(file: str, changes: dict[str, Any], message: str, folder: Path) -> None:
    edit(folder / file, changes)
    fails(folder, message)


def test_networks_that_do_not_fit(folder: Path) -> None:
    """Each sound in itself, but from unlike models."""
    config = folder / "unet" / "config.json"
    plain, path = json.loads(config.read_text()), folder / UNET_WEIGHTS
    weights = path.read_bytes()
    edit(config, {"num_class_embeds": 10})
    fails(folder, "lacks 1 tensor: class_embedding.weight")
    reweigh(path, lambda s: s.update({"class_embedding.weight": torch.zeros(10, 32)}))
    fails(folder, "the UNet wants a label of its 10 classes beside the text")
    path.write_bytes(weights)
    config.write_text(json.dumps({**plain, "in_channels": 6}))
    reweigh(path, lambda s: s.update({"conv_in.weight": torch.zeros(8, 6, 3, 3)}))
    fails(folder, "from 6 to 4 channels, the autoencoder's latents have 4")
    config.write_text(json.dumps({**plain, "cross_attention_dim": 5}))
    path.write_bytes(weights)

    def narrower(state: dict[str, Tensor]) -> None:
        for key, tensor in state.items():
            if "attn2.to_k" in key or "attn2.to_v" in key:
                state[key] = tensor[:, :5].clone()

    reweigh(path, narrower)
    fails(folder, "a context of width 5, the text tower writes 12")
