"""`latentbrush sample`, and what other commands say of models that read no words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from wordless import wordless_model

from latentbrush.formats import METADATA_KEY, read_record, read_texts, save_model

pytestmark = pytest.mark.capability("unconditional")

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def pixels_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "pixels"
    save_model(wordless_model(), folder)
    return folder


@pytest.fixture(scope="module")
def latents_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "latents"
    save_model(wordless_model(latent=True), folder)
    return folder


@pytest.fixture(scope="module")
def classes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "classes"
    save_model(wordless_model(classes=4), folder)
    return folder


def read(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        assert (image.mode, image.size) == ("RGB", (8, 8))
        return np.asarray(image).astype(int)


@pytest.mark.parametrize("kind", ["pixels", "latents"])
def test_pictures_without_words(kind: str, run: Run, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = request.getfixturevalue(f"{kind}_folder")
    outcome = run("sample", "--model", folder, "--seed", "5", "--count", "2", "--sampler", "euler", "--steps", "4")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == "out/picture-5.png (seed 5)\nout/picture-6.png (seed 6)\n"
    first, second = (read(tmp_path / "out" / f"picture-{seed}.png") for seed in (5, 6))
    assert np.abs(first - second).max() > 10
    told = read_record(tmp_path / "out/picture-6.png").request
    assert (told.prompt, told.label, told.guidance.weight) == ("", None, 1)
    assert (told.sampling.sampler, told.sampling.steps) == ("euler", 4)


@pytest.mark.capability("class-to-image")
def test_a_label_chooses_the_picture(run: Run, classes_folder: Path, tmp_path: Path) -> None:
    for label in (0, 3):
        outcome = run("sample", "--model", classes_folder, "--label", label, "--seed", "5")
        assert (outcome.code, outcome.out) == (0, f"out/class-{label}-5.png (seed 5)\n")
        assert read_record(tmp_path / f"out/class-{label}-5.png").request.label == label
    assert np.abs(read("out/class-0-5.png") - read("out/class-3-5.png")).max() > 10


@pytest.mark.capability("reproduce", "denoising-strip", "denoising-animation", "low-memory")
def test_reproduced_with_its_way_from_noise(run: Run, classes_folder: Path, latents_folder: Path) -> None:
    for folder, more in ((classes_folder, ["--label", "2"]), (latents_folder, ["--low-memory"])):
        painting = ["--model", folder, "--seed", "5", "--out", "x.png", "--strip", "--animate", "--overwrite"]
        outcome = run("sample", *painting, *more)
        assert outcome.out == "x.png (seed 5)\nx-strip.png\nx-animation.webp\n", outcome.err
        outcome = run("reproduce", "x.png", "--out", "y.png", "--overwrite")
        assert outcome.out == "y.png (seed 5): identical to x.png\n", outcome.err


@pytest.mark.capability("no-metadata")
def test_without_metadata(run: Run, pixels_folder: Path) -> None:
    run("sample", "--model", pixels_folder, "--out", "with.png")
    run("sample", "--model", pixels_folder, "--out", "without.png", "--no-metadata")
    assert METADATA_KEY in read_texts(Path("with.png"))
    assert read_texts(Path("without.png")) == {}


@pytest.mark.capability("one-line-errors")
def test_what_does_not_belong_together_is_refused(
    refused: Callable[..., str], model_folder: Path, pixels_folder: Path, classes_folder: Path
) -> None:
    line = refused("txt2img", "a red heart", "--model", pixels_folder)
    assert "reads no words" in line
    assert f"latentbrush sample --model {pixels_folder}" in line
    assert "reads no words" in refused("txt2img", "", "--model", pixels_folder)
    assert "reads words; paint with it by latentbrush txt2img" in refused("sample", "--model", model_folder)
    assert "the label is 3, but the model knows no classes and no words" in refused(
        "sample", "--model", pixels_folder, "--label", 3
    )
    for label in ([], ["--label", "4"], ["--label", "99999999999999999999999"]):
        line = refused("sample", "--model", classes_folder, *label)
        assert "the model paints one of 4 classes; give a label from 0 to 3" in line
    assert "label" in refused("sample", "--model", classes_folder, "--label", "-1")
    assert "'cat' is not a whole number" in refused("sample", "--model", classes_folder, "--label", "cat")
    line = refused("sample", "--model", pixels_folder, "--guidance", "3")
    assert "guidance is 3, but the model knows nothing to be guided away from" in line
    assert "--negative" in refused("sample", "--model", pixels_folder, "--negative", "blue")
    assert "choose at least 2 pixels a side" in refused("sample", "--model", pixels_folder, "--size", "8x1")
    assert "has no tokeniser" in refused("tokens", "a red heart", "--model", pixels_folder)
    for to in ("single-file", "diffusers"):
        line = refused("convert", pixels_folder, "x.safetensors", "--to", to)
        assert "a model of pixels, which is kept as a folder" in line


@pytest.mark.capability("model-info")
@pytest.mark.parametrize(
    ("kind", "parts", "words"),
    [
        ("pixels", ["unet"], ["diffusion of pixels (DDPM), unconditional", "f = 1", "it reads no words"]),
        ("latents", ["unet", "vqvae"], ["latent diffusion (LDM), unconditional", "f = 2", "VQ autoencoder"]),
        ("classes", ["unet"], ["diffusion of pixels (DDPM), class-to-image", "labels", "0 to 3"]),
    ],
)
def test_info(kind: str, parts: list[str], words: list[str], run: Run, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(f"{kind}_folder")
    outcome = run("info", folder)
    assert (outcome.code, outcome.err) == (0, "")
    assert all(word in outcome.out for word in words), outcome.out
    told = json.loads(run("info", folder, "--json", "--memory").out)
    assert [part["name"] for part in told["parts"]] == parts
    assert told["tokens"] == {}
    assert told["classes"] == (4 if kind == "classes" else None)
    assert told["painting"]["float32"]["activations"]["unet"] > 0


@pytest.mark.capability("forward-process")
def test_the_forward_process(run: Run, pixels_folder: Path, classes_folder: Path, refused: Callable[..., str]) -> None:
    Image.linear_gradient("L").resize((8, 8)).convert("RGB").save("photo.png")
    assert run("diffuse", "photo.png", "--model", pixels_folder, "--levels", "2", "--out", "x.png").code == 0
    label = ["--label", "2"]
    assert run("diffuse", "photo.png", "--model", classes_folder, "--levels", "2", "--out", "y.png", *label).code == 0
    assert "give a label from 0 to 3" in refused("diffuse", "photo.png", "--model", classes_folder)
    assert "reads no words" in refused("diffuse", "photo.png", "--model", pixels_folder, "--prompt", "a")
