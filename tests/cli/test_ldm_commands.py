"""LDM's own models on the command line: tiny ones, painted with, told of, converted, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from latentbrush.conditioning import ClassTokenConditioner, LabelConditioner, TextConditioner, WordPieceTokenizer
from latentbrush.diffusion import Schedule
from latentbrush.formats import read_record, save_model
from latentbrush.model import LatentDiffusion, ModelDefaults
from latentbrush.nn import (
    AutoencoderConfig,
    AutoencoderKL,
    ClassToken,
    ClassTokenConfig,
    LDMBertConfig,
    LDMBertModel,
    UNet,
    UNet2D,
    UNet2DConfig,
    UNetConfig,
    VQAutoencoder,
    VQConfig,
)

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "heart", "##s"]
BLOCKS: dict[str, Any] = {"sample_size": 4, "channels": (8,), "layers_per_block": 1, "groups": 4}
WORDS: dict[str, Any] = {"attention": (True,), "heads": (2,), "depth": (1,), "context_width": 8}
STAGE: dict[str, Any] = {"channels": (8, 8), "layers_per_block": 1, "mid_attention": False, "groups": 4}


def saved(folder: Path, stage: Any, unet: UNet | UNet2D, text: Any, guidance: float) -> Path:
    for parameter in unet.parameters():  # it starts as the zero function, which would paint the same of everything
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    defaults = ModelDefaults(steps=3, guidance=guidance, width=8, height=8)
    schedule = Schedule(beta_start=0.0015, beta_end=0.0195)
    plan = {"spacing": "leading", "steps_offset": 1}
    save_model(LatentDiffusion(stage, unet, text, schedule=schedule, plan_options=plan, defaults=defaults), folder)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    tokenizer = WordPieceTokenizer({token: i for i, token in enumerate(VOCABULARY)}, max_length=8)
    tower = LDMBertModel(
        LDMBertConfig(vocab_size=9, width=8, layers=1, heads=2, head_width=3, mlp_width=8, max_positions=8)
    )
    stage = AutoencoderKL(AutoencoderConfig(**STAGE, scaling_factor=1.0, sample_size=8))
    unet = UNet(UNetConfig(**BLOCKS, **WORDS))
    return saved(tmp_path_factory.mktemp("ldm") / "text", stage, unet, TextConditioner(tokenizer, tower), 1.0)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    told = ClassTokenConditioner(ClassToken(ClassTokenConfig(classes=3, width=8)))
    unet = UNet(UNetConfig(**BLOCKS, **WORDS, in_channels=3, out_channels=3))
    stage = VQAutoencoder(VQConfig(**STAGE, codebook_size=20, sample_size=8))
    torch.nn.init.normal_(stage.codebook.weight)
    return saved(tmp_path_factory.mktemp("ldm") / "classes", stage, unet, told, 2.0)


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(2)
    unet = UNet2D(UNet2DConfig(**BLOCKS, in_channels=7, attention=(True,), residual=(True,), heads=2))
    stage = VQAutoencoder(VQConfig(**STAGE, codebook_size=20, sample_size=8))
    torch.nn.init.normal_(stage.codebook.weight)
    return saved(tmp_path_factory.mktemp("ldm") / "inpainting", stage, unet, LabelConditioner(), 1.0)


def pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.capability("bert-text")
def test_words(run: Callable[..., Any], refused: Callable[..., str], text: Path) -> None:
    outcome = run("txt2img", "a red heart", "--model", text, "--seed", "3", "--out", "x.png")
    assert outcome.code == 0, outcome.err
    assert read_record("x.png").request.guidance.weight == 1
    run("txt2img", "a red heart", "--model", text, "--seed", "3", "--guidance", "5", "--out", "y.png")
    assert (pixels("x.png") != pixels("y.png")).any()
    outcome = run("tokens", "a red hearts", "--model", text)
    assert "##s" in outcome.out
    assert "[SEP]" in outcome.out
    told = json.loads(run("info", text, "--json").out)
    assert told["family"] == "latent diffusion (LDM), text-to-image"
    assert {part["name"]: part["kind"] for part in told["parts"]} == {
        "unet": "UNet",
        "vqvae": "KL autoencoder",
        "bert": "LDM's text tower",
    }
    assert run("reproduce", "x.png", "--out", "z.png").code == 0
    assert (pixels("x.png") == pixels("z.png")).all()
    assert "reads words" in refused("sample", "--model", text)


@pytest.mark.capability("bert-text", "single-file")
def test_a_file_without_its_vocabulary(
    run: Callable[..., Any], refused: Callable[..., str], text: Path, tmp_path: Path
) -> None:
    outcome = run("convert", text, "one.safetensors", "--to", "single-file")
    assert outcome.code == 0, outcome.err
    assert run("txt2img", "a heart", "--model", "one.safetensors", "--out", "x.png").code == 0
    save_file(load_file("one.safetensors"), "bare.safetensors")
    said = refused("txt2img", "a heart", "--model", "bare.safetensors")
    assert "reads BERT's vocabulary, which no such file holds; give a folder with the vocab.txt" in said
    assert refused("convert", "bare.safetensors", "folder", "--to", "diffusers") == said
    assert not (tmp_path / "folder").exists()
    outcome = run("convert", "bare.safetensors", "folder", "--to", "diffusers", "--config", text)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "folder/tokenizer/vocab.txt").is_file()


@pytest.mark.capability("class-token", "class-to-image")
def test_a_class(run: Callable[..., Any], refused: Callable[..., str], classes: Path) -> None:
    for label, name in (("0", "x.png"), ("2", "y.png")):
        outcome = run("sample", "--model", classes, "--label", label, "--seed", "3", "--out", name)
        assert outcome.code == 0, outcome.err
    assert (pixels("x.png") != pixels("y.png")).any()
    request = read_record("y.png").request
    assert (request.label, request.guidance.weight) == (2, 2.0)
    run("sample", "--model", classes, "--label", "2", "--seed", "3", "--guidance", "1", "--out", "z.png")
    assert (pixels("y.png") != pixels("z.png")).any()
    assert run("reproduce", "y.png", "--out", "again.png").code == 0
    assert (pixels("y.png") == pixels("again.png")).all()
    assert json.loads(run("info", classes, "--memory", "--json").out)["classes"] == 3
    assert "one of 3 classes; give a label from 0 to 2" in refused("sample", "--model", classes, "--label", "3")
    assert "there is no label" in refused("sample", "--model", classes)
    assert "reads no words" in refused("txt2img", "a heart", "--model", classes)


@pytest.mark.capability("class-token", "inpainting-model", "single-file")
@pytest.mark.parametrize("kind", ["classes", "inpainting"])
def test_files(kind: str, request: pytest.FixtureRequest, run: Callable[..., Any]) -> None:
    folder = request.getfixturevalue(kind)
    assert run("convert", folder, "one.safetensors", "--to", "single-file").code == 0
    assert run("convert", "one.safetensors", "folder", "--to", "diffusers").code == 0
    for path in sorted(folder.rglob("*.json")):
        assert (Path("folder") / path.relative_to(folder)).read_text() == path.read_text()
    told = run("info", "one.safetensors")
    assert told.code == 0, told.err
    assert "latent diffusion (LDM)" in told.out


@pytest.mark.capability("inpainting-model")
def test_inpainting(run: Callable[..., Any], refused: Callable[..., str], inpainting: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save("photo.png")
    Image.fromarray(np.repeat([[255] * 4 + [0] * 4], 8, 0).astype(np.uint8)).save("mask.png")
    where = ["--model", inpainting, "--image", "photo.png", "--mask", "mask.png", "--seed", "5", "--out", "x.png"]
    outcome = run("inpaint", "", *where)
    assert outcome.code == 0, outcome.err
    changed = (pixels("x.png") != pixels("photo.png")).any(axis=-1)
    assert not changed[:, 4:].any()
    assert changed[:, :4].mean() > 0.5
    assert "reads no words" in refused("inpaint", "a heart", *where, "--overwrite")
    assert "it needs a picture and a mask" in refused("sample", "--model", inpainting)
    assert run("reproduce", "x.png", "--image", "photo.png", "--mask", "mask.png", "--out", "y.png").code == 0
    assert run("info", inpainting, "--memory").code == 0
