"""`--strip` and `--animate` with a tiny model: what lies beside the pictures, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from latentbrush.cli.paint import paint_to_files
from latentbrush.cli.shared import PaintOptions
from latentbrush.request import ImageRequest, ModelRequest, Sampling


def painting(model: Path, *arguments: str | Path) -> list[str | Path]:
    return ["txt2img", "a red heart", "--model", model, "--seed", "5", "--out", "x.png", *arguments]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def last_cells(strip: Path) -> list[np.ndarray]:
    """The 8 x 8 pictures of the last column, from the bottom: cells of 128 pixels, 6 apart, margins of 12."""
    sheet = pixels(strip)[:-12, :-12]
    bottoms = (sheet.shape[0], sheet.shape[0] - 134)
    return [sheet[bottom - 120 : bottom : 16, -120::16] for bottom in bottoms]


@pytest.mark.parametrize(("sampler", "steps"), [("ddim", "3"), ("heun", "3"), ("dpmpp_2m", "20")])
def test_a_strip_lies_beside_the_picture(
    run: Callable[..., Any], model_folder: Path, tmp_path: Path, sampler: str, steps: str
) -> None:
    outcome = run(*painting(model_folder, "--strip", "--sampler", sampler, "--steps", steps))
    assert (outcome.code, outcome.out, outcome.err) == (0, "x.png (seed 5)\nx-strip.png\n", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x-strip.png", "x.png"]
    columns = min(int(steps) + 1, 10)
    assert columns * 134 < pixels(Path("x-strip.png")).shape[1] < (columns + 1) * 134
    picture = pixels(Path("x.png"))
    for cell in last_cells(Path("x-strip.png")):  # a finished picture is its own estimate
        assert np.abs(cell - picture).max() <= 1


def test_watching_changes_no_picture(run: Callable[..., Any], model_folder: Path) -> None:
    run(*painting(model_folder))
    plain = pixels(Path("x.png"))
    run(*painting(model_folder, "--strip", "--animate", "--overwrite"))
    assert np.array_equal(pixels(Path("x.png")), plain)


def test_an_animation_runs_from_noise_to_the_picture(run: Callable[..., Any], model_folder: Path) -> None:
    outcome = run(*painting(model_folder, "--animate", "--strip", "--steps", "5"))
    assert outcome.out == "x.png (seed 5)\nx-strip.png\nx-animation.webp\n"
    with Image.open("x-animation.webp") as image:
        assert image.n_frames == 6  # type: ignore[attr-defined]
        first = np.asarray(image.convert("RGB")).astype(int)
        image.seek(5)
        last = np.asarray(image.convert("RGB")).astype(int)
    assert last.shape == first.shape
    assert np.abs(last - first).max() > 50


def test_every_picture_of_every_batch_has_its_own(model_folder: Path, tmp_path: Path) -> None:
    options = PaintOptions(out=tmp_path / "x.png", strip=True, animate=True)
    sampling = Sampling(seed=5, count=3, batch_size=2)
    paint_to_files(ImageRequest(prompt="a", model=ModelRequest(name=str(model_folder)), sampling=sampling), options)
    names = [f"x-{i}{ending}" for i in range(3) for ending in ("-animation.webp", "-strip.png", ".png")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    for i in range(3):
        picture = pixels(tmp_path / f"x-{i}.png")
        assert np.abs(last_cells(tmp_path / f"x-{i}-strip.png")[0] - picture).max() <= 1


def test_a_guide_s_way_begins_in_the_middle(run: Callable[..., Any], model_folder: Path) -> None:
    Image.linear_gradient("L").convert("RGB").save("photo.png")
    arguments = ["img2img", "a red heart", "--model", model_folder, "--image", "photo.png", "--out", "x.png"]
    assert run(*arguments, "--strip", "--steps", "10", "--strength", "0.3").code == 0
    assert pixels(Path("x-strip.png")).shape[1] < 5 * 134  # 3 of 10 steps and the finished picture


@pytest.mark.parametrize("option", ["--strip", "--animate"])
def test_no_step_no_way(refused: Callable[..., str], model_folder: Path, option: str) -> None:
    Image.new("RGB", (8, 8)).save("photo.png")
    arguments = ["img2img", "a", "--model", model_folder, "--image", "photo.png", "--strength", "0"]
    assert "no step is run" in refused(*arguments, option)


@pytest.mark.parametrize(("option", "name"), [("--strip", "x-1-strip.png"), ("--animate", "x-1-animation.webp")])
def test_existing_files_are_not_overwritten_unasked(
    run: Callable[..., Any], refused: Callable[..., str], model_folder: Path, tmp_path: Path, option: str, name: str
) -> None:
    (tmp_path / name).write_bytes(b"mine")
    arguments = painting(model_folder, "--count", "2", "--steps", "1", option)
    assert f"{name} exists" in refused(*arguments)
    assert run(*arguments, "--overwrite").code == 0
    assert pixels(tmp_path / name).shape[2] == 3


def test_without_webp_it_is_said_before_work(
    refused: Callable[..., str], model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "check", lambda feature: feature != "webp")
    assert "cannot write WebP" in refused(*painting(model_folder, "--animate"))


def test_a_full_disk_leaves_no_half_strip(
    run: Callable[..., Any], model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Image.Image.save

    def full(self: Image.Image, file: Path, **options: Any) -> None:
        if "-strip" in file.name:
            file.write_bytes(b"half a strip")
            raise OSError(28, "No space left on device")
        save(self, file, **options)

    monkeypatch.setattr(Image.Image, "save", full)
    outcome = run(*painting(model_folder, "--strip"))
    assert outcome.code == 2
    assert "x-strip.png (No space left on device)" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
