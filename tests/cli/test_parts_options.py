"""`--vae`, `--safety-check`, and parts alone on the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from latentbrush.files import read_json, write_json
from latentbrush.formats import load_autoencoder, load_model, read_record, save_autoencoder
from latentbrush.formats.keys import SAFETY
from latentbrush.formats.safety import load_safety_check
from latentbrush.formats.weights import save_weights
from latentbrush.nn import CLIPVisionConfig, SafetyChecker, SafetyConfig

Run = Callable[..., Any]


@pytest.fixture
def vae(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's own, but for its last layer."""
    return saved_vae(model_folder, tmp_path_factory.mktemp("models") / "vae", 0.5)


def saved_vae(model_folder: Path, folder: Path, brighter: float) -> Path:
    autoencoder = load_autoencoder(model_folder)
    bias = autoencoder.decoder.conv_out.bias
    assert bias is not None
    with torch.no_grad():
        bias += brighter
    save_autoencoder(autoencoder, folder, overwrite=True)
    return folder


def pixels(path: str) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def painting(model: Path, out: str, *more: str | Path) -> list[str | Path]:
    return ["txt2img", "a red heart", "--model", model, "--seed", "5", "--device", "cpu", "--out", out, *more]


@pytest.mark.capability("other-autoencoder")
def test_a_picture_says_by_which_autoencoder_and_is_painted_again(run: Run, model_folder: Path, vae: Path) -> None:
    assert run("convert", vae, "vae.safetensors", "--to", "single-file").code == 0
    assert run(*painting(model_folder, "plain.png")).code == 0
    given = {"folder.png": [vae], "low.png": [vae, "--low-memory"], "file.png": ["vae.safetensors"]}
    for out, more in given.items():
        outcome = run(*painting(model_folder, out, "--vae", *more))
        assert (outcome.code, outcome.err) == (0, "")
    assert pixels("folder.png") == pixels("low.png") == pixels("file.png") != pixels("plain.png")
    record = read_record(Path("folder.png"))
    assert record.request.model.vae == str(vae)
    assert "exchanged_vae/diffusion_pytorch_model.safetensors" in record.model.weights
    again = run("reproduce", "folder.png")
    assert (again.code, again.out) == (0, "out/folder-reproduced.png (seed 5): identical to folder.png\n")
    saved_vae(model_folder, vae, -0.5)
    out = run("reproduce", "folder.png", "--overwrite").out
    assert "pixels differ" in out
    assert "the weights 'exchanged_vae/diffusion_pytorch_model.safetensors': SHA-256" in out


@pytest.mark.capability("other-autoencoder")
def test_what_is_assumed_of_a_file_is_said(run: Run, model_folder: Path, vae: Path) -> None:
    assert run("convert", vae, "told.safetensors", "--to", "single-file").code == 0
    save_file(load_file("told.safetensors"), "bare.safetensors")  # without the settings in its header
    outcome = run(*painting(model_folder, "x.png", "--vae", "bare.safetensors"))
    assert outcome.code == 0
    assert outcome.err == (
        "latentbrush: bare.safetensors: an autoencoder, by its keys and shapes; scaling_factor 1.0 is assumed, as the "
        "model's\n"
    )


@pytest.mark.capability("other-autoencoder", "one-line-errors")
def test_an_autoencoder_that_does_not_fit(refused: Run, model_folder: Path, vae: Path) -> None:
    config = read_json(vae / "config.json")
    write_json(vae / "config.json", {**config, "scaling_factor": 0.13025})
    said = refused(*painting(model_folder, "x.png", "--vae", vae))
    assert "the autoencoder scales its latents by 0.13025, the model's own by 1.0" in said
    assert "is no autoencoder" in refused(*painting(model_folder, "x.png", "--vae", model_folder / "unet"))
    assert "nowhere" in refused(*painting(model_folder, "x.png", "--vae", "nowhere"))


@pytest.mark.capability("parts-alone")
def test_a_part_alone_is_told_and_converted(run: Run, refused: Run, model_folder: Path, vae: Path) -> None:
    for place in (vae, model_folder / "text_encoder"):
        outcome = run("info", place)
        assert outcome.code == 0
        assert "on disk" in outcome.out
        told = json.loads(run("info", place, "--json").out)
        written = run("convert", place, "part.safetensors", "--to", "single-file", "--overwrite")
        assert written.code == 0
        again = json.loads(run("info", "part.safetensors", "--json").out)
        assert again["part"]["parameters"] == told["part"]["parameters"]
        assert again["facts"] == told["facts"]
        assert again["told"] == "as its own header says"
        assert run("convert", "part.safetensors", "part", "--to", "diffusers", "--overwrite").code == 0
        assert json.loads(run("info", "part", "--json").out)["facts"] == told["facts"]
    assert "is a part of a model" in refused("info", vae, "--memory")
    assert "is for whole models" in refused("convert", vae, "y", "--to", "diffusers", "--weights", "ema")


@pytest.fixture
def checked(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the model with a safety checker that flags all pictures."""
    folder = Path(shutil.copytree(model_folder, tmp_path_factory.mktemp("models") / "checked"))
    (folder / "safety_checker").mkdir()
    vision = CLIPVisionConfig(width=8, layers=1, heads=2, mlp_width=8, image_size=8, patch_size=4)
    network = SafetyChecker(SafetyConfig(vision=vision, projection=4))
    torch.nn.init.constant_(network.concept_embeds_weights, -2)
    save_weights(network, folder / "safety_checker/model.safetensors", SAFETY, torch.float32)
    config = {
        "model_type": "clip",
        "projection_dim": 4,
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 8,
            "image_size": 8,
            "patch_size": 4,
        },
    }
    write_json(folder / "safety_checker/config.json", config)
    return folder


@pytest.mark.capability("safety-check")
def test_what_is_flagged_is_black_and_said_to_be(run: Run, checked: Path) -> None:
    assert run(*painting(checked, "plain.png")).err == ""
    outcome = run(*painting(checked, "flagged.png", "--safety-check", "--strip", "--animate"))
    assert outcome.code == 0
    assert outcome.out == "flagged.png (seed 5)\n"  # its way from noise would show it
    assert outcome.err == "latentbrush: flagged.png: flagged by the safety checker, and so black\n"
    assert not list(Path().glob("flagged-*"))
    assert set(pixels("flagged.png")) == {0} != set(pixels("plain.png"))
    assert read_record(Path("flagged.png")).request.model.safety_check
    again = run("reproduce", "flagged.png")
    assert again.out == "out/flagged-reproduced.png (seed 5): identical to flagged.png\n"
    network = load_safety_check(checked).network
    torch.nn.init.constant_(network.concept_embeds_weights, 2)
    save_weights(network, checked / "safety_checker/model.safetensors", SAFETY, torch.float32)
    outcome = run(*painting(checked, "free.png", "--safety-check", "--low-memory", "--strip"))
    assert (outcome.code, outcome.err) == (0, "")
    assert Path("free-strip.png").is_file()
    assert pixels("free.png") == pixels("plain.png")


@pytest.mark.capability("safety-check", "reproduce", "one-line-errors")
def test_a_flagged_picture_stays_black_wherever_its_model_lies(
    run: Run, refused: Run, model_folder: Path, checked: Path
) -> None:
    assert run(*painting(checked, "flagged.png", "--safety-check")).code == 0
    said = refused("reproduce", "flagged.png", "--model", model_folder)
    assert "has no safety_checker" in said
    moved = checked.rename(checked.with_name("moved"))
    again = run("reproduce", "flagged.png", "--model", moved)
    assert again.out.startswith("out/flagged-reproduced.png (seed 5): identical to flagged.png\n")
    assert set(pixels("out/flagged-reproduced.png")) == {0}


@pytest.mark.capability("other-autoencoder", "reproduce", "one-line-errors")
def test_what_the_picture_says_holds_for_a_model_that_has_moved(
    run: Run, refused: Run, model_folder: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = Path(shutil.copytree(model_folder, tmp_path_factory.mktemp("models") / "here"))
    assert run(*painting(model, "plain.png")).code == 0
    assert run(*painting(model, "x.png", "--vae", vae, "--prediction", "sample")).code == 0
    model, vae = model.rename(model.with_name("there")), vae.rename(vae.with_name("elsewhere"))
    said = refused("reproduce", "x.png", "--model", model)
    assert "does not exist; say where it lies now by --vae" in said
    again = run("reproduce", "x.png", "--model", model, "--vae", vae)
    assert (again.code, again.out) == (0, "out/x-reproduced.png (seed 5): identical to x.png\n")
    named = read_record(Path("out/x-reproduced.png")).request.model
    assert (named.name, named.vae, named.prediction) == (str(model), str(vae), "sample")
    said = refused("reproduce", "plain.png", "--model", model, "--vae", vae)
    assert "painted by no autoencoder but the model's own; leave out --vae" in said


@pytest.mark.capability("reproduce")
def test_weights_are_chosen_only_where_there_is_a_choice(run: Run, model_folder: Path) -> None:
    assert run("convert", model_folder, "one.safetensors", "--to", "single-file").code == 0
    assert run(*painting(Path("one.safetensors"), "x.png", "--weights", "raw")).code == 0
    again = run("reproduce", "x.png", "--model", model_folder)
    assert again.out.startswith("out/x-reproduced.png (seed 5): identical to x.png\n"), again.err


@pytest.mark.capability("safety-check", "one-line-errors")
def test_a_model_without_a_safety_checker(refused: Run, run: Run, model_folder: Path, tmp_path: Path) -> None:
    said = "has no safety_checker; paint without the safety check"
    assert said in refused(*painting(model_folder, "x.png", "--safety-check"))
    assert run("convert", model_folder, "one.safetensors", "--to", "single-file").code == 0
    assert said in refused(*painting(tmp_path / "one.safetensors", "x.png", "--safety-check"))
    assert load_model(model_folder).safety_check is None
