"""`latentbrush inpaint` with a tiny model: what it writes, refuses, and paints again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latentbrush.formats import METADATA_KEY
from latentbrush.request import ImageRequest

pytestmark = pytest.mark.capability("inpainting")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A picture and a mask over its left half."""
    photo, mask = tmp_path / "photo.png", tmp_path / "mask.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(photo)
    Image.fromarray(np.repeat([[255] * 4 + [0] * 4], 8, 0).astype(np.uint8)).save(mask)
    return photo, mask


def painting(model: Path, photo: Path, mask: Path, *more: str) -> list[str | Path]:
    where = ["--model", model, "--image", photo, "--mask", mask, "--out", "x.png", "--seed", "5"]
    return ["inpaint", "a red heart", *where, *more]


def pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_what_is_black_stays(run: Callable[..., Any], model_folder: Path, files: tuple[Path, Path]) -> None:
    outcome = run(*painting(model_folder, *files))
    assert (outcome.code, outcome.out) == (0, "x.png (seed 5)\n")
    changed = (pixels("x.png") != pixels(files[0])).any(axis=-1)
    assert not changed[:, 4:].any()
    assert changed[:, :4].mean() > 0.5
    with Image.open("x.png") as image:
        request = ImageRequest.model_validate(json.loads(image.text[METADATA_KEY])["request"])  # type: ignore[attr-defined]
    assert [request.start.image, request.start.mask] == [hashlib.sha256(f.read_bytes()).hexdigest() for f in files]
    assert request.start.strength == 1
    assert run(*painting(model_folder, *files, "--no-paste", "--overwrite")).code == 0
    assert (pixels("x.png") != pixels(files[0])).any(axis=-1)[:, 4:].any()


def test_what_a_mask_leaves_transparent_stays(
    run: Callable[..., Any], refused: Callable[..., str], model_folder: Path, files: tuple[Path, Path]
) -> None:
    """White strokes on a layer of its own, as painting programs save it."""
    photo, mask = files
    strokes = np.zeros((8, 8, 4), np.uint8)
    strokes[:, :4] = 255
    Image.fromarray(strokes).save(mask)
    assert run(*painting(model_folder, photo, mask)).code == 0
    changed = (pixels("x.png") != pixels(photo)).any(axis=-1)
    assert not changed[:, 4:].any()
    assert changed[:, :4].mean() > 0.5
    Image.fromarray(np.full((8, 8, 4), [255, 0, 0, 0], np.uint8)).save(mask)
    assert "black throughout" in refused(*painting(model_folder, photo, mask, "--overwrite"))


@pytest.mark.capability("reproduce")
def test_it_is_painted_again(
    run: Callable[..., Any], refused: Callable[..., str], model_folder: Path, files: tuple[Path, Path]
) -> None:
    photo, mask = files
    run(*painting(model_folder, photo, mask))
    assert "was painted over another picture" in refused("reproduce", "x.png", "--mask", mask)
    assert "was painted with a mask" in refused("reproduce", "x.png", "--image", photo)
    assert "--mask is not the mask that" in refused("reproduce", "x.png", "--image", photo, "--mask", photo)
    outcome = run("reproduce", "x.png", "--image", photo, "--mask", mask, "--out", "again.png")
    assert outcome.code == 0, outcome.err
    assert "identical to x.png" in outcome.out
    run("txt2img", "a red heart", "--model", model_folder, "--out", "plain.png")
    assert "without a mask; leave out --mask" in refused("reproduce", "plain.png", "--mask", mask)


def test_what_cannot_be(refused: Callable[..., str], model_folder: Path, files: tuple[Path, Path]) -> None:
    photo, mask = files
    black = photo.with_name("black.png")
    Image.new("L", (8, 8)).save(black)
    assert "black throughout" in refused(*painting(model_folder, photo, black))
    assert "does not exist" in refused(*painting(model_folder, photo, photo.with_name("none.png")))
    assert "strength" in refused(*painting(model_folder, photo, mask, "--strength", "2"))
    assert "--mask" in refused("inpaint", "a red heart", "--image", photo)
