"""`latentbrush reproduce` says what is not as it was: pixels, weights, versions, settings and machines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from reproducing import changed, paint, request

from latentbrush.formats import (
    METADATA_KEY,
    load_model,
    read_record,
    read_texts,
    save_model,
    save_picture,
)

pytestmark = pytest.mark.capability("reproduce")


def test_other_weights_are_named(run: Callable[..., Any], model_copy: Path, tmp_path: Path) -> None:
    [file] = paint(request(model_copy), tmp_path)
    model = load_model(model_copy)
    model.unet.conv_out.weight.data.mul_(1.5)
    save_model(model, model_copy, overwrite=True)
    outcome = run("reproduce", file)
    assert outcome.code == 0
    first, *others = outcome.out.splitlines()
    assert first.startswith("out/x-0-reproduced.png (seed 5): ")
    assert "of 96 pixels differ, by at most " in first
    assert first.endswith(f" of 255, from {file}")
    [line] = others
    before, after = (read_record(path).model.weights for path in (file, Path("out/x-0-reproduced.png")))
    unet = "unet/diffusion_pytorch_model.safetensors"
    assert line == f"- the weights '{unet}': SHA-256 {after[unet][:10]}..., painted with {before[unet][:10]}..."


def test_another_model_can_be_chosen(
    run: Callable[..., Any], refused: Callable[..., str], model_copy: Path, tmp_path: Path
) -> None:
    [file] = paint(request(model_copy), tmp_path)
    moved = model_copy.rename(model_copy.with_name("moved"))
    line = refused("reproduce", file)
    assert f"model '{model_copy}' does not exist" in line
    assert line.endswith("with --model\n")
    assert run("reproduce", file, "--model", moved).out.endswith(f"identical to {file}\n")
    assert read_record(Path("out/x-0-reproduced.png")).request.model.name == str(moved)


def test_other_versions_settings_and_machines_are_named(
    run: Callable[..., Any], model_folder: Path, tmp_path: Path
) -> None:
    [file] = paint(request(model_folder), tmp_path)
    changed(
        file,
        versions={"torch": "1.0\x1b[31m", "jax": "1"},
        machine={"device": "abacus", "dtype": "float32", "threads": 1000},
        model={**read_record(file).model.model_dump(), "settings": "0" * 64},
    )
    first, *others = run("reproduce", file).out.splitlines()
    assert first.endswith(f"identical to {file}")
    assert len(others) == 5
    assert others[0] == "- the model's settings: its JSON or text files are not those that the picture was painted with"
    assert others[1] == "- 'jax': None, painted with '1'"
    assert others[2].endswith(r"painted with '1.0\x1b[31m'")
    assert others[3:] == ["- device: cpu, painted with 'abacus'", "- threads: 1, painted with 1000"]


def test_pixels_that_were_changed_are_seen(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    [file] = paint(request(model_folder), tmp_path)
    texts = read_texts(file)
    with Image.open(file) as image:
        r, g, b = image.getpixel((3, 2))  # type: ignore[misc]
        image.putpixel((3, 2), (r, g, b + 7 if b < 100 else b - 7))
        save_picture(image, file, texts)
        save_picture(image.resize((24, 16)), tmp_path / "larger.png", texts)
    first, line = run("reproduce", file).out.splitlines()
    assert "1 of 96 pixels differ, by at most 7 of 255, from" in first
    assert "it was changed, or is from another machine" in line
    assert "12x8 pixels, unlike the 24x16 of" in run("reproduce", tmp_path / "larger.png").out


def test_pictures_from_before_weights_were_written(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    file = paint(request(model_folder, count=5, batch_size=3), tmp_path)[4]
    record = json.loads(read_texts(file)[METADATA_KEY])
    for key in ("batch", "model", "machine"):
        del record[key]
    with Image.open(file) as image:
        image.load()
        save_picture(image, file, {METADATA_KEY: json.dumps(record)})
    first, line = run("reproduce", file).out.splitlines()
    assert first.endswith(f"identical to {file}")
    assert line == "- the picture does not say by which weights it was painted"
