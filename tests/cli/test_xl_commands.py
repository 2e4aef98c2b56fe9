"""Stable Diffusion XL on the command line, tiny: sizes, scores, and a refiner that takes over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latentbrush.conditioning import XLTextConditioner
from latentbrush.formats import load_model, read_record, save_model
from latentbrush.model import LatentDiffusion, ModelDefaults
from latentbrush.nn import CLIPTextConfig, ProjectedTextConfig, ProjectedTextModel, UNet

pytestmark = pytest.mark.capability("stable-diffusion-xl")


@pytest.fixture(scope="module")
def folders(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """base (two towers, six numbers) and refiner (one tower, five), 3 steps each."""
    made = {}
    for name, numbers in (("base", 6), ("refiner", 5)):
        plain = load_model(model_folder)
        torch.manual_seed(numbers)
        shape = CLIPTextConfig(
            vocab_size=520, width=8, layers=2, heads=2, mlp_width=8, max_positions=16, activation="gelu"
        )
        tower = ProjectedTextModel(ProjectedTextConfig(shape, projection=6))
        text = XLTextConditioner(plain.text if name == "base" else None, plain.text.tokenizer, tower)
        config = replace(plain.unet.config, context_width=text.width, micro_width=4, added_width=6 + 4 * numbers)
        unet = UNet(config)
        for parameter in unet.parameters():  # it starts as the zero function
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.2)
        model = LatentDiffusion(
            plain.autoencoder,
            unet.eval(),
            text.eval(),
            plan_options={"spacing": "trailing"},
            defaults=ModelDefaults(steps=3, guidance=2.0, width=8, height=8),
        )
        made[name] = tmp_path_factory.mktemp("xl") / name
        save_model(model, made[name])
    return made


def pixels(path: str) -> bytes:
    return np.asarray(Image.open(path)).tobytes()


@pytest.mark.parametrize("command", ["txt2img", "img2img"])
def test_sizes_and_scores(run: Callable[..., Any], folders: dict[str, Path], command: str) -> None:
    told = [command, "a red heart", "--model", folders["base"], "--seed", "5"]
    if command == "img2img":
        assert run("txt2img", "a blue cat", "--model", folders["base"], "--out", "start.png").code == 0
        told += ["--image", "start.png"]
    found = set()
    for i, more in enumerate(([], ["--original-size", "64x32"], ["--crop", "3,200"], ["--target-size", "200x100"])):
        outcome = run(*told, *more, "--out", f"{i}.png")
        assert outcome.code == 0, outcome.err
        found.add(pixels(f"{i}.png"))
    assert len(found) == 4
    micro = read_record(Path("2.png")).request.micro
    assert (micro.crop, micro.original, micro.target) == ((3, 200), (8, 8), (8, 8))


def test_the_refiner_is_told_scores(run: Callable[..., Any], folders: dict[str, Path]) -> None:
    assert run("txt2img", "a blue cat", "--model", folders["base"], "--out", "start.png").code == 0
    told = ["img2img", "a red heart", "--model", folders["refiner"], "--image", "start.png", "--seed", "5"]
    found = set()
    for i, more in enumerate(([], ["--aesthetic", "9"], ["--negative-aesthetic", "9"])):
        assert run(*told, *more, "--out", f"{i}.png").code == 0
        found.add(pixels(f"{i}.png"))
    assert len(found) == 3


@pytest.mark.capability("base-and-refiner", "reproduce", "png-metadata", "denoising-strip")
def test_a_refiner_takes_over_and_is_found_again(
    run: Callable[..., Any], refused: Callable[..., str], folders: dict[str, Path]
) -> None:
    told = ["txt2img", "a red heart", "--model", folders["base"], "--seed", "5"]
    refined = [*told, "--refiner", folders["refiner"], "--handover"]
    assert run(*told, "--out", "alone.png").code == 0
    outcome = run(*refined, "0.6", "--out", "x.png", "--strip", "--count", "2")
    assert outcome.out.startswith("x-0.png (seed 5)\nx-0-strip.png\n"), outcome.err
    assert run(*refined, "0.3", "--out", "early.png").code == 0
    assert len({pixels(f"{name}.png") for name in ("alone", "x-0", "early")}) == 3
    record = read_record(Path("x-1.png"))
    assert (record.request.stages[0].handover, record.steps_run) == (0.6, 3)
    assert record.model.refiner is not None
    assert record.model.refiner.weights != record.model.weights
    outcome = run("reproduce", "x-1.png", "--out", "again.png")
    assert outcome.out == "again.png (seed 6): identical to x-1.png\n", outcome.err
    outcome = run("reproduce", "x-1.png", "--refiner", folders["refiner"], "--out", "third.png")
    assert "identical to x-1.png" in outcome.out
    assert "painted without a refiner" in refused("reproduce", "alone.png", "--refiner", folders["refiner"])


@pytest.mark.capability("base-and-refiner", "single-file")
def test_how_a_refiner_s_file_was_read_is_said(run: Callable[..., Any], folders: dict[str, Path]) -> None:
    assert run("convert", folders["refiner"], "refiner.safetensors", "--to", "single-file").code == 0
    told = ["txt2img", "a red heart", "--model", folders["base"], "--seed", "5", "--handover", "0.6", "--out", "x.png"]
    outcome = run(*told, "--refiner", "refiner.safetensors")
    assert outcome.code == 0
    assert outcome.err.startswith("latentbrush: refiner.safetensors: as its own header says; prediction epsilon")
    assert outcome.err.count("\n") == 1


@pytest.mark.capability("forward-process")
def test_the_forward_process(run: Callable[..., Any], folders: dict[str, Path]) -> None:
    Image.linear_gradient("L").resize((8, 8)).save("photo.png")
    for name in ("base", "refiner"):
        outcome = run("diffuse", "photo.png", "--model", folders[name], "--levels", "2", "--out", f"{name}.png")
        assert outcome.code == 0, outcome.err


@pytest.mark.capability("base-and-refiner", "one-line-errors")
def test_what_is_refused(refused: Callable[..., str], folders: dict[str, Path], model_folder: Path) -> None:
    plain, base = ["txt2img", "a", "--model", model_folder], ["txt2img", "a", "--model", folders["base"]]
    for more in (["--original-size", "8x8"], ["--crop", "1,1"], ["--target-size", "8x8"], ["--aesthetic", "5"]):
        assert "told no sizes, crop or scores beside the words" in refused(*plain, *more)
    assert "is not a place; give X,Y in pixels" in refused(*base, "--crop", "3")
    assert "both must lie in 0 to 16384" in refused(*base, "--crop", "-3,0")
    assert "less than or equal to 10" in refused(*base, "--aesthetic", "11")
    refined = [*base, "--refiner", folders["refiner"]]
    assert "less than 1" in refused(*refined, "--handover", "1")
    assert "leaves none after it" in refused(*refined, "--handover", "0.999")
    assert "and there is none; add --refiner" in refused(*base, "--handover", "0.5")
    assert "the refiner does not fit the model: its kind is other than" in refused(*base, "--refiner", model_folder)
    assert "'missing' does not exist" in refused(*base, "--refiner", "missing")


def test_a_refiner_of_another_kind(refused: Callable[..., str], folders: dict[str, Path], model_folder: Path) -> None:
    for model, refiner, its, own in (
        (model_folder, folders["refiner"], "", "other than "),
        (folders["base"], model_folder, "other than ", ""),
    ):
        said = refused("txt2img", "a cat", "--model", model, "--refiner", refiner)
        assert f"its kind is {its}Stable Diffusion XL, the model's {own}Stable Diffusion XL; take the refiner" in said
