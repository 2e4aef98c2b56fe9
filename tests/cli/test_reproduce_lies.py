"""`latentbrush reproduce` of files that lie, or that would take hours: refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from reproducing import again, foreign, paint, request

from latentbrush.formats import (
    METADATA_KEY,
    PARAMETERS_KEY,
)
from latentbrush.request import Canvas

pytestmark = pytest.mark.capability("reproduce")


LIES = {
    "deep": "[" * 500_000,
    "large": '{"request": {"prompt": "' + "x" * 1_100_000 + '", "steps": 1}}',
    "wrong types": {"request": {"prompt": ["x"] * 1000}},
    "index": {"index": 10**30},
    "index below 0": {"index": -1},
    "batch too large": {"batch": {"first": 0, "size": 10**9}},
    "batch elsewhere": {"batch": {"first": 3, "size": 1}},
    "dtype": {"machine": {"dtype": "load"}},
    "threads": {"machine": {"threads": "many"}},
    "no hash": {"model": {"weights": {"unet": "../../etc/passwd"}}},
    "versions": {"versions": {"torch": "x" * 10**5}},
    "sampler": {"model": {"weights": {"unet": "0" * 64}, "sampler": "__import__"}},
    "model nowhere": {"request": {"model": {"name": "~nobody-of-that-name/model"}}},
    "model a device": {"request": {"model": {"name": "/dev/zero"}}},
    "model with NUL": {"request": {"model": {"name": "a\0b"}}},
    "canvas": {"request": {"canvas": {"width": 10**6, "height": 8}}},
    "canvas, odd": {"request": {"canvas": {"width": 9, "height": 8}}},
    "steps": {"request": {"sampling": {"steps": -3, "seed": 1}}},
    "guidance": {"request": {"guidance": {"weight": float("nan")}}},
    "seed": {"request": {"sampling": {"seed": 2**64}}},
    "start": {"request": {"start": {"image": "../start.png"}}},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_records_that_lie_are_refused_in_one_line(
    refused: Callable[..., str], model_folder: Path, tmp_path: Path, lie: Any
) -> None:
    record: Any = lie
    if isinstance(lie, dict):
        wanted = {"prompt": "x", "model": {"name": str(model_folder)}, **lie.get("request", {})}
        record = json.dumps({"index": 0, "steps_run": 1, **lie, "request": wanted})
    line = refused("reproduce", foreign(tmp_path / "x.png", METADATA_KEY, record))
    assert len(line) < 1000


@pytest.mark.parametrize(
    ("canvas", "sampling", "said"),
    [
        ((16, 18), {}, "16x18 pixels, more than 4 times the 8x8 of this model"),
        ((16384, 16384), {"steps": 1000}, "16384x16384 pixels, more than"),
        ((8, 8), {"count": 100_000, "batch_size": 100_000}, "in a batch of 100000, more than 64"),
    ],
)
def test_what_would_take_hours_is_painted_only_when_meant(
    refused: Callable[..., str],
    model_folder: Path,
    tmp_path: Path,
    canvas: tuple[int, int],
    sampling: dict[str, int],
    said: str,
) -> None:
    wanted = request(model_folder, **sampling).model_dump()
    wanted["canvas"] = {"width": canvas[0], "height": canvas[1]}
    record = json.dumps({"request": wanted, "index": 0, "steps_run": 1})
    line = refused("reproduce", foreign(tmp_path / "x.png", METADATA_KEY, record))
    assert said in line
    assert "x.png was painted " in line
    assert line.endswith("; if you mean that, add --large\n")


def test_large_pictures_of_our_own_are_painted_when_meant(
    run: Callable[..., Any], model_folder: Path, tmp_path: Path
) -> None:
    wanted = request(model_folder, steps=1).model_copy(update={"canvas": Canvas(width=16, height=18)})
    [file] = paint(wanted, tmp_path)
    assert run("reproduce", file).code == 2
    again(run, file, "--large")
    at_once = paint(request(model_folder, steps=1, count=65, batch_size=65), tmp_path)
    assert run("reproduce", at_once[64]).code == 2
    again(run, at_once[64], "--large")
    largest = paint(request(model_folder, steps=1, count=64, batch_size=64), tmp_path)
    again(run, largest[0])


def test_files_that_are_no_pictures(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    foreign(tmp_path / "long.png", PARAMETERS_KEY, "x" * 1_000_000)
    foreign(tmp_path / "whole.png", "comment", "not painted")
    foreign(tmp_path / "graph.png", "prompt", '{"1": {}}')
    foreign(tmp_path / "half.png", "prompt", '{"1": {"class_type": "KSampler", "inputs": {"positive": "\\ud83d"}}}')
    foreign(tmp_path / "empty.png", PARAMETERS_KEY, " ")
    packed = PngInfo()
    packed.add_text(PARAMETERS_KEY, "x" * 10**7, zip=True)  # 10 kB in the file
    Image.new("RGB", (8, 8)).save(tmp_path / "packed.png", pnginfo=packed)
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.jpg")
    for name, said in {
        "absent.png": "does not exist",
        "notes.png": "its format is none of those known here",
        "long.png": "long.png: the parameters text has 1000000 letters, at most 100000 are read",
        "half.png": "half.png: the prompt it carries is no JSON in UTF-8",
        "empty.png": "empty.png does not say how it was painted",
        "packed.png": "cannot be read",
        "whole.png": "does not say how it was painted; give a PNG with its metadata",
        "graph.png": "has no KSampler node",
        "photo.jpg": "does not say how it was painted",
    }.items():
        assert said in refused("reproduce", tmp_path / name)
