"""`latentbrush upscale` with a tiny upscaler: what it writes, refuses, and paints again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latentbrush.conditioning import LabelConditioner
from latentbrush.formats import load_model, read_record, save_model
from latentbrush.model import LatentDiffusion, ModelDefaults
from latentbrush.nn import AutoencoderKL, UNet, UNet2D, UNet2DConfig, VQAutoencoder, VQConfig

pytestmark = pytest.mark.capability("x4-upscaler")


@pytest.fixture(scope="module")
def upscaler(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """f = 2, so that it doubles; 3 steps."""
    plain = load_model(model_folder)
    torch.manual_seed(0)
    unet = UNet(replace(plain.unet.config, in_channels=7, classes=400)).eval()
    for parameter in unet.parameters():  # it starts as the zero function
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    autoencoder = AutoencoderKL(replace(plain.autoencoder.config, scaling_factor=0.08333)).eval()
    defaults = ModelDefaults(steps=3, guidance=2.0, width=8, height=8)
    model = LatentDiffusion(autoencoder, unet, plain.text, plan_options=plain.plan_options, defaults=defaults)
    folder = tmp_path_factory.mktemp("upscaler") / "x2"
    save_model(model, folder)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (7, 12, 3), dtype=np.uint8)).save(path)
    return path


@pytest.mark.capability("reproduce", "png-metadata", "denoising-strip")
def test_a_picture_becomes_larger_and_is_painted_again(
    run: Callable[..., Any], refused: Callable[..., str], upscaler: Path, picture: Path
) -> None:
    where = ["--model", upscaler, "--seed", "5"]
    outcome = run("upscale", picture, "a red heart", *where, "--out", "x.png", "--strip", "--count", "2")
    assert outcome.out.startswith("x-0.png (seed 5)\nx-0-strip.png\n"), outcome.err
    assert Image.open("x-0.png").size == (24, 14)
    control = read_record(Path("x-0.png")).request.control
    assert control.noise_level == 20
    assert "was painted with a control" in refused("reproduce", "x-1.png")
    outcome = run("reproduce", "x-1.png", "--control", picture, "--out", "again.png")
    assert "identical to x-1.png" in outcome.out, outcome.err
    assert run("upscale", picture, *where).out == "out/photo-upscaled-5.png (seed 5)\n"


def test_words_noise_and_guidance_count(run: Callable[..., Any], upscaler: Path, picture: Path) -> None:
    told = ["upscale", picture, "--model", upscaler, "--seed", "5"]
    found, heart = set(), ["a red heart"]  # without words there is nothing for guidance to weigh
    for i, more in enumerate(([], heart, [*heart, "--guidance", "5"], ["--noise-level", "200"], ["--steps", "2"])):
        assert run(*told, *more, "--out", f"{i}.png").code == 0
        found.add(np.asarray(Image.open(f"{i}.png")).tobytes())
    assert len(found) == 5


@pytest.mark.capability("one-line-errors")
def test_what_is_refused(refused: Callable[..., str], upscaler: Path, picture: Path, model_folder: Path) -> None:
    where = ["--model", upscaler]
    assert "the noise level is 351, but the model was trained with 0 to 350" in refused(
        "upscale", picture, *where, "--noise-level", "351"
    )
    assert "greater than or equal to 0" in refused("upscale", picture, *where, "--noise-level", "-1")
    said = refused("upscale", picture, "--model", model_folder)
    assert "take latentbrush txt2img, or name another model (--model)" in said
    assert "does not exist" in refused("upscale", "none.png", *where)
    assert "--size" in refused("upscale", picture, *where, "--size", "8x8")
    assert "it needs a small picture" in refused("txt2img", "a red heart", *where)
    assert "starts from noise alone" in refused("img2img", "a red heart", "--image", picture, *where)
    assert "trained for upscaling and reads a further picture" in refused("diffuse", picture, *where)


@pytest.mark.capability("model-info", "predicted-memory")
def test_info_and_memory(run: Callable[..., Any], upscaler: Path) -> None:
    outcome = run("info", upscaler, "--memory", "--size", "16x8")
    assert "Stable Diffusion, upscaling" in outcome.out, outcome.err
    assert "largest activations: unet" in outcome.out
    assert "activations: encoder" not in outcome.out


@pytest.fixture(scope="module")
def wordless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After LDM: no words, no noise on the small picture; f = 2, 3 steps."""
    torch.manual_seed(0)
    stage = VQConfig(
        channels=(8, 8), codebook_size=16, layers_per_block=1, mid_attention=False, groups=4, sample_size=8
    )
    shape = UNet2DConfig(sample_size=4, in_channels=6, channels=(8,), attention=(False,), groups=4)
    unet = UNet2D(shape)
    for parameter in unet.parameters():  # it starts as the zero function
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    model = LatentDiffusion(
        VQAutoencoder(stage).eval(),
        unet.eval(),
        LabelConditioner().eval(),
        plan_options={"spacing": "trailing"},
        defaults=ModelDefaults(steps=3, guidance=1.0, width=8, height=8),
    )
    folder = tmp_path_factory.mktemp("wordless") / "x2"
    save_model(model, folder)
    return folder


@pytest.mark.capability("super-resolution", "reproduce", "one-line-errors")
def test_a_model_without_words(
    run: Callable[..., Any], refused: Callable[..., str], wordless: Path, picture: Path
) -> None:
    told = ["upscale", picture, "--model", wordless, "--seed", "5"]
    outcome = run(*told, "--out", "x.png")
    assert outcome.out == "x.png (seed 5)\n", outcome.err
    assert Image.open("x.png").size == (24, 14)
    Image.linear_gradient("L").resize((12, 7)).save("other.png")
    assert run("upscale", "other.png", *told[2:], "--out", "y.png").code == 0
    assert np.asarray(Image.open("x.png")).tobytes() != np.asarray(Image.open("y.png")).tobytes()
    outcome = run("reproduce", "x.png", "--control", picture, "--out", "again.png")
    assert "identical to x.png" in outcome.out, outcome.err
    assert "the model reads no words" in refused("upscale", picture, "a red heart", *told[2:])
    assert "the noise level is 3, but the model puts none on its picture" in refused(*told, "--noise-level", "3")
    assert "it needs a small picture" in refused("sample", *told[2:])
