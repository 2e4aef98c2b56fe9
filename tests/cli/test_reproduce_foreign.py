"""`latentbrush reproduce` of other programs' pictures: as near as the model comes, and what is not as they tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from reproducing import again, foreign, paint, photo, request

from latentbrush.formats import (
    PARAMETERS_KEY,
    load_photo,
    read_record,
    read_texts,
    save_picture,
)
from latentbrush.request import Start

pytestmark = pytest.mark.capability("reproduce")


@pytest.mark.capability("foreign-pictures")
def test_a_web_ui_s_picture(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    text = "a (red:1.2) heart\nNegative prompt: blue\nSteps: 2, Sampler: Euler a, CFG scale: 2.5, Seed: 7, Size: 12x8"
    file = foreign(tmp_path / "theirs.png", PARAMETERS_KEY, text)
    first, *notes = run("reproduce", file, "--model", model_folder).out.splitlines()
    assert first == f"out/theirs-reproduced.png (seed 7): 12x8 pixels, unlike the 8x8 of {file}"
    assert [note[:12] for note in notes] == ["- weights of", "- RNG: 'GPU'"]
    record = read_record(Path("out/theirs-reproduced.png"))
    assert (record.request.prompt, record.request.guidance.weight) == ("a red heart", 2.5)
    assert (record.request.sampling.steps, record.request.sampling.sampler) == (2, "euler_ancestral")
    again(run, Path("out/theirs-reproduced.png"))


def test_our_own_parameters_paint_the_same(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    """What web UIs are told is all that a picture of one needs, here where the rest is the same."""
    [_, file] = paint(request(model_folder, count=2, batch_size=1, sampler="ddim"), tmp_path)
    with Image.open(file) as image:
        image.load()
        save_picture(image, tmp_path / "theirs.png", {PARAMETERS_KEY: read_texts(file)[PARAMETERS_KEY]})
    outcome = run("reproduce", tmp_path / "theirs.png", "--model", model_folder)
    assert outcome.out == f"out/theirs-reproduced.png (seed 6): identical to {tmp_path / 'theirs.png'}\n"


@pytest.mark.capability("foreign-pictures", "other-autoencoder")
def test_a_web_ui_s_picture_by_another_autoencoder(
    run: Callable[..., Any], refused: Callable[..., str], model_folder: Path, tmp_path: Path
) -> None:
    file = foreign(tmp_path / "theirs.png", PARAMETERS_KEY, "a heart\nSteps: 2, Seed: 7, RNG: CPU")
    arguments = ["reproduce", file, "--model", model_folder]
    assert "leave out --refiner" in refused(*arguments, "--refiner", model_folder)
    assert run(*arguments, "--vae", model_folder / "vae").code == 0
    assert read_record(Path("out/theirs-reproduced.png")).request.model.vae == str(model_folder / "vae")


@pytest.mark.capability("foreign-pictures")
def test_a_web_ui_s_picture_over_another(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    text = "a heart\nSteps: 2, Seed: 7, Denoising strength: 0.5, RNG: CPU"
    file = foreign(tmp_path / "theirs.png", PARAMETERS_KEY, text)
    start = photo(tmp_path / "start.png")
    arguments = ["reproduce", file, "--model", model_folder, "--overwrite"]
    assert "give the picture to start from with --image" in run(*arguments).out
    assert run(*arguments, "--image", start).out.count("\n") == 1
    record = read_record(Path("out/theirs-reproduced.png"))
    assert (record.request.start, record.steps_run) == (Start(image=load_photo(start).sha256, strength=0.5), 1)


@pytest.mark.capability("foreign-pictures")
@pytest.mark.parametrize(("sampler", "notes"), [("DPM adaptive", 1), ("Heun", 0)])
def test_a_model_whose_scheduler_is_not_here(
    run: Callable[..., Any], model_copy: Path, tmp_path: Path, sampler: str, notes: int
) -> None:
    index = json.loads((model_copy / "model_index.json").read_text())
    index["scheduler"][1] = "VQDiffusionScheduler"
    (model_copy / "model_index.json").write_text(json.dumps(index))
    text = f"a heart\nSteps: 2, Seed: 7, RNG: CPU, Sampler: {sampler}"
    outcome = run("reproduce", foreign(tmp_path / "theirs.png", PARAMETERS_KEY, text), "--model", model_copy)
    assert (outcome.code, outcome.out.count("\n")) == (0, 1 + notes)


@pytest.mark.capability("foreign-pictures")
def test_a_graph_of_comfyui(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    graph = {"3": {"class_type": "KSampler", "inputs": {"seed": 9, "steps": 2, "sampler_name": "ddim"}}}
    file = foreign(tmp_path / "theirs.png", "prompt", json.dumps(graph))
    assert run("reproduce", file, "--model", model_folder).out.startswith("out/theirs-reproduced.png (seed 9): ")


def test_a_text_with_many_settings_is_not_repeated_without_end(
    run: Callable[..., Any], model_folder: Path, tmp_path: Path
) -> None:
    text = "Steps: 2, RNG: CPU, " + ", ".join(f"key {i}: \x1b[31m" for i in range(1000))
    outcome = run("reproduce", foreign(tmp_path / "x.png", PARAMETERS_KEY, text), "--model", model_folder)
    assert outcome.code == 0
    assert outcome.out.count("\n") == 32
    assert outcome.out.endswith("- and 970 more\n")
    assert "\x1b" not in outcome.out
