"""`latentbrush convert`, and single files as models of the other commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from latentbrush.formats import read_record

pytestmark = pytest.mark.capability("single-file")

FIRST = "model.diffusion_model.input_blocks.0.0.weight"


def test_there_and_back(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    outcome = run("convert", model_folder, "tiny.safetensors", "--to", "single-file")
    assert outcome.code == 0, outcome.err
    count = len(load_file(tmp_path / "tiny.safetensors"))
    assert outcome.out.startswith(f"tiny.safetensors ({count} tensors, ")
    outcome = run("convert", "tiny.safetensors", "tiny", "--to", "diffusers", "--dtype", "float16")
    assert outcome.code == 0, outcome.err
    assert "- as its own header says, prediction epsilon" in outcome.out
    weights = load_file(tmp_path / "tiny" / "unet" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}


def test_a_file_paints_as_its_folder_does(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    run("convert", model_folder, "tiny.safetensors", "--to", "single-file")
    for name, model in (("folder", model_folder), ("file", "tiny.safetensors")):
        outcome = run("txt2img", "a red heart", "--seed", "3", "--model", model, "--out", f"{name}.png")
        assert outcome.code == 0, outcome.err
    assert "latentbrush: tiny.safetensors: as its own header says; prediction epsilon; schedule" in outcome.err
    first, second = (Image.open(tmp_path / f"{name}.png").tobytes() for name in ("folder", "file"))
    assert first == second
    outcome = run("reproduce", "file.png", "--out", "again.png")
    assert outcome.code == 0, outcome.err
    assert "identical to" in outcome.out
    assert "\n-" not in outcome.out


def test_what_is_chosen_is_told_and_recorded(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    run("convert", model_folder, "tiny.safetensors", "--to", "single-file")
    outcome = run("info", "tiny.safetensors", "--prediction", "v_prediction", "--json")
    assert json.loads(outcome.out)["prediction"] == "v_prediction"
    assert "read as" in run("info", "tiny.safetensors").out
    options = ("--seed", "1", "--model", "tiny.safetensors", "--prediction", "sample", "--weights", "raw")
    outcome = run("txt2img", "a red heart", *options, "--out", "x.png")
    assert "prediction sample" in outcome.err
    request = read_record(tmp_path / "x.png").request
    assert (request.model.prediction, request.model.weights) == ("sample", "raw")
    outcome = run("reproduce", "x.png", "--out", "again.png")
    assert "identical to" in outcome.out


def test_refusals(refused: Callable[..., str], run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.ckpt").write_bytes(b"PK\x03\x04 and so on")
    for command in (["info"], ["convert"], ["txt2img", "a cat", "--model"]):
        more = ["out", "--to", "diffusers"] if command == ["convert"] else []
        assert "broken.ckpt is no sound torch.save file" in refused(*command, "broken.ckpt", *more)
    assert "does not end with .safetensors" in refused("convert", model_folder, "x.ckpt", "--to", "single-file")
    assert "format 'onnx' is unknown" in refused("convert", model_folder, "x", "--to", "onnx")
    assert "'velocity'" in refused("convert", model_folder, "x", "--to", "diffusers", "--prediction", "velocity")
    assert "the option weights is for single files" in refused(
        "txt2img", "x", "--model", model_folder, "--weights", "ema"
    )
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["broken.ckpt"]
