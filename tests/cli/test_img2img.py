"""`latentbrush img2img` with a tiny model: what it writes, and what it refuses, in one line and writing nothing."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from latentbrush.cli.photo import photo_in
from latentbrush.cli.shared import PaintOptions
from latentbrush.diffusion import SAMPLERS
from latentbrush.errors import UserError
from latentbrush.formats import METADATA_KEY, load_photo
from latentbrush.request import ImageRequest

pytestmark = pytest.mark.capability("image-to-image")


def photo(path: Path, size: tuple[int, int] = (24, 16)) -> Path:
    Image.linear_gradient("L").resize(size).convert("RGB").save(path)
    return path


def painting(model: Path, image: str | Path, *arguments: str | Path) -> list[str | Path]:
    return ["img2img", "a red heart", "--model", model, "--image", image, "--out", "x.png", *arguments]


def metadata(path: Path) -> Any:
    with Image.open(path) as image:
        return json.loads(image.text[METADATA_KEY])  # type: ignore[attr-defined]


@pytest.mark.parametrize(("strength", "steps_run"), [("0.7", 2), ("1", 3), ("0", 0)])
def test_the_picture_says_from_what_it_was_painted(
    run: Callable[..., Any], model_folder: Path, tmp_path: Path, strength: str, steps_run: int
) -> None:
    file = photo(tmp_path / "photo.jpg")
    outcome = run(*painting(model_folder, file, "--strength", strength, "--seed", "5"))
    assert (outcome.code, outcome.out) == (0, "x.png (seed 5)\n")
    said = metadata(Path("x.png"))
    request = ImageRequest.model_validate(said["request"])
    assert request.start.image == hashlib.sha256(file.read_bytes()).hexdigest()
    assert request.start.strength == float(strength)
    assert (request.sampling.steps, said["steps_run"]) == (3, steps_run)


def test_all_options_of_txt2img_are_there_and_work(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    file = photo(tmp_path / "photo.png")
    arguments = ["--steps", "4", "--sampler", "heun", "--guidance", "1.5", "--size", "12x8", "--count", "2"]
    assert run(*painting(model_folder, file, "--negative", "grey", "--seed", "1", *arguments)).code == 0
    request = ImageRequest.model_validate(metadata(Path("x-1.png"))["request"])
    assert (request.sampling.sampler, request.sampling.steps, request.guidance.weight) == ("heun", 4, 1.5)
    assert (request.guidance.negative, request.start.strength) == ("grey", 0.8)
    with Image.open("x-0.png") as image:
        assert image.size == (12, 8)
    helps = [run(command, "--help").out for command in ("txt2img", "img2img")]
    for name in PaintOptions.__dataclass_fields__:
        option = "--size" if name == "canvas" else f"--{name.replace('_', '-')}"
        assert all(option in text for text in helps)
    assert "--strength" not in helps[0]
    for text in helps:
        words = text.replace(",", " ").replace(".", " ").split()
        assert all(sampler in words for sampler in SAMPLERS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--strength", "1.5"], "strength: Input should be less than or equal to 1, not 1.5"),
        (["--strength", "much"], "'much' is not a finite number"),
        (["--strength", "nan"], "'nan' is not a finite number"),
        (["--size", "9x8"], "size 9x8 does not fit"),
        (["--sampler", "plsm"], "sampler 'plsm' is unknown"),
    ],
)
def test_values_that_cannot_be(
    refused: Callable[..., str], model_folder: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    assert said in refused(*painting(model_folder, photo(tmp_path / "photo.png"), *arguments))


def test_files_that_are_no_photograph(refused: Callable[..., str], model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    photo(tmp_path / "whole.png", (200, 200))
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:300])
    pages = Image.new("RGB", (8, 8))
    pages.save(tmp_path / "moving.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), "red")])
    for name, said in {
        "absent.png": "does not exist; give a picture file",
        "notes.txt": "its format is none of those known here",
        "half.png": "cannot be read",
        "moving.gif": "it holds several pictures",
        ".": "is a folder",
    }.items():
        assert said in refused(*painting(model_folder, tmp_path / name))
    assert "--image" in refused("img2img", "a red heart")


def test_a_link_that_leads_nowhere_is_no_absent_file(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("absent.png")
    with pytest.raises(UserError, match=r"link\.png is a link that leads nowhere; give a picture file"):
        load_photo(tmp_path / "link.png")


def test_without_standard_error_a_picture_is_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under a service that closes it."""
    Image.linear_gradient("L").save(tmp_path / "grey.png")
    monkeypatch.setattr(sys, "stderr", None)
    assert photo_in(tmp_path / "grey.png").image.size == (256, 256)
