"""Models and parts of another kind than a command needs: each is refused in one line that names the way out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from wordless import wordless_model

from latentbrush.formats import read_record, save_model

pytestmark = pytest.mark.capability("one-line-errors")

Run = Callable[..., Any]
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def wordless(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, options in {"pixels": {}, "classes": {"classes": 4}, "latents": {"latent": True}}.items():
        made[name] = tmp_path_factory.mktemp("wordless") / name
        save_model(wordless_model(**options), made[name])  # type: ignore[arg-type]
    return made


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.new("RGB", (8, 8), "red").save(path)
    return path


def test_a_class_is_told_in_inpainting_too(
    run: Run, refused: Refused, wordless: dict[str, Path], picture: Path, tmp_path: Path
) -> None:
    Image.new("L", (8, 8), 255).save(mask := tmp_path / "mask.png")
    told = ["--model", wordless["classes"], "--image", picture, "--mask", mask, "--seed", "1", "--out"]
    for label in ("0", "3"):
        outcome = run("inpaint", "", *told, f"{label}.png", "--label", label)
        assert outcome.code == 0, outcome.err
        assert read_record(tmp_path / f"{label}.png").request.label == int(label)
    assert Path("0.png").read_bytes() != Path("3.png").read_bytes()
    assert "give a label from 0 to 3" in refused("inpaint", "", *told, "x.png")
    assert "the label is 4, " in refused("inpaint", "", *told, "x.png", "--label", "4")
    assert "leave it out or empty" in refused("inpaint", "a cat", *told, "x.png", "--label", "1")
    assert "knows no classes" in refused("inpaint", "", "--model", wordless["pixels"], *told[2:], "x.png", "--label", 1)
    assert "reads words" in refused("inpaint", "a cat", *told[2:], "x.png", "--label", "1")


@pytest.mark.parametrize(("kind", "task"), [("pixels", "unconditional"), ("classes", "class-to-image")])
@pytest.mark.parametrize("words", [[], ["a cat"]])
def test_enlarging_by_what_does_not(
    kind: str, task: str, words: list[str], refused: Refused, wordless: dict[str, Path], picture: Path
) -> None:
    said = refused("upscale", picture, *words, "--model", wordless[kind])
    assert f"is {task}, that of this command upscaling; take latentbrush sample, or name another model" in said


def test_enlarging_by_what_reads_words(refused: Refused, model_folder: Path, picture: Path) -> None:
    said = refused("upscale", picture, "--model", model_folder)
    assert "is text-to-image, that of this command upscaling; take latentbrush txt2img" in said


@pytest.mark.capability("other-autoencoder")
def test_what_vae_does_not_take(
    refused: Refused, wordless: dict[str, Path], model_folder: Path, tmp_path: Path
) -> None:
    told = ["txt2img", "a cat", "--model", model_folder, "--vae"]
    assert "the vae 'nope' does not exist; " in (said := refused(*told, "nope"))
    assert "(--vae)" in said
    for path in (wordless["latents"], wordless["latents"] / "vqvae"):
        assert f"{wordless['latents'] / 'vqvae'} is a VQ autoencoder" in refused(*told, path)
    assert "is a model of pixels, which has no autoencoder" in refused(*told, wordless["pixels"])
    broken = Path(shutil.copytree(model_folder, tmp_path / "broken"))
    (broken / "vae" / "config.json").unlink()
    assert f"{broken}/vae/config.json is missing; give a folder with all its files" in refused(*told, broken)


@pytest.mark.capability("stable-diffusion-xl")
def test_what_takes_over_from_no_one(refused: Refused, wordless: dict[str, Path], model_folder: Path) -> None:
    told = ["txt2img", "a cat", "--model", model_folder, "--refiner"]
    assert "the refiner: model 'nope' does not exist" in refused(*told, "nope")
    assert "its task is unconditional, the model's text-to-image" in refused(*told, wordless["latents"])


@pytest.mark.capability("parts-alone")
def test_a_part_is_no_model(run: Run, refused: Refused, model_folder: Path, picture: Path) -> None:
    whats = {"vae": "an autoencoder alone, which painting takes by --vae", "text_encoder": "a text tower alone"}
    for part, what in whats.items():
        assert run("convert", model_folder / part, f"{part}.safetensors", "--to", "single-file").code == 0
        save_file(load_file(f"{part}.safetensors"), "bare.safetensors")
        for file in (f"{part}.safetensors", "bare.safetensors"):  # with the settings in its header, and without
            for command in (["diffuse", picture], ["txt2img", "a cat"]):
                said = refused(*command, "--model", file)
                assert f"{what}, not a whole model; give a checkpoint" in said
                assert said.count(";") == 1


@pytest.mark.capability("single-file")
@pytest.mark.parametrize("name", ["vae/config.json", "model_index.json", "scheduler/scheduler_config.json"])
def test_a_header_that_lacks_some(name: str, run: Run, refused: Refused, model_folder: Path) -> None:
    assert run("convert", model_folder, "whole.safetensors", "--to", "single-file").code == 0
    with safe_open("whole.safetensors", "pt") as file:
        texts = json.loads(file.metadata()["latentbrush.settings"])
    del texts[name]
    save_file(load_file("whole.safetensors"), "less.safetensors", {"latentbrush.settings": json.dumps(texts)})
    said = f"less.safetensors: the settings in its header have no {name}; convert it anew\n"
    assert refused("info", "less.safetensors").endswith(said)
    assert refused("convert", "less.safetensors", "out", "--to", "diffusers").endswith(said)


@pytest.mark.capability("single-file")
def test_a_file_without_a_name(refused: Refused, model_folder: Path) -> None:
    said = refused("convert", model_folder, ".safetensors", "--to", "single-file")
    assert ".safetensors has no letters before its ending; give a name such as model.safetensors" in said
    assert "name it x.safetensors" in refused("convert", model_folder, "x.ckpt", "--to", "single-file")
