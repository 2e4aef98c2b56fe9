"""What `latentbrush convert` writes can be opened: settings that describe no model are refused before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentbrush.files import read_json, write_json

pytestmark = pytest.mark.capability("single-file")

SCHEDULER = "scheduler/scheduler_config.json"
WRONG = {
    "another beta_schedule": ({"beta_schedule": "zigzag"}, "zigzag"),
    "no number": ({"beta_end": float("nan")}, "beta_end"),
    "another prediction": ({"prediction_type": "velocity"}, "velocity"),
    "no steps": ({"num_train_timesteps": 0}, "num_train_timesteps is 0"),
    "another field": ({"timestep_spacing": "odd"}, "'odd'"),
}


@pytest.fixture(params=["diffusers", "single-file"])
def convert_to(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return ("out.safetensors" if request.param == "single-file" else "out", "--to", request.param)


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


@pytest.mark.parametrize("wrong", WRONG)
def test_of_the_scheduler(wrong: str, convert_to: tuple[str, ...], refused: Callable[..., str], folder: Path) -> None:
    changes, said = WRONG[wrong]
    write_json(folder / SCHEDULER, {**read_json(folder / SCHEDULER), **changes})
    line = refused("convert", folder, *convert_to)
    assert said in line
    assert f"{folder}: {SCHEDULER}" in line
    assert said in refused("info", folder)


def test_broken_json(convert_to: tuple[str, ...], refused: Callable[..., str], folder: Path) -> None:
    (folder / SCHEDULER).write_text("{ nothing")
    assert f"{folder}: {SCHEDULER}" in refused("convert", folder, *convert_to)
    write_json(folder / "scheduler" / "scheduler_config.json", {})
    (folder / "latentbrush.json").write_text('{"format": 1, "steps": 0, "guidance": 2.0, "width": 8, "height": 8}')
    assert "steps" in refused("convert", folder, *convert_to)


def test_a_class_that_is_unknown(convert_to: tuple[str, ...], refused: Callable[..., str], folder: Path) -> None:
    """There is no --sampler here that could help."""
    index = read_json(folder / "model_index.json")
    write_json(folder / "model_index.json", {**index, "scheduler": ["diffusers", "NoSuchScheduler"]})
    line = refused("convert", folder, *convert_to)
    assert "scheduler NoSuchScheduler is not supported" in line
    assert f"correct {SCHEDULER} first" in line
    assert "--sampler" not in line


def test_of_a_file_by_the_settings_of_a_folder(
    convert_to: tuple[str, ...], run: Callable[..., Any], refused: Callable[..., str], folder: Path
) -> None:
    assert run("convert", folder, "good.safetensors", "--to", "single-file").code == 0
    write_json(folder / SCHEDULER, {**read_json(folder / SCHEDULER), "beta_schedule": "zigzag"})
    assert "zigzag" in refused("convert", "good.safetensors", *convert_to, "--config", folder)
    assert json.loads(run("info", "good.safetensors", "--json").out)["schedule"]["train_steps"] == 1000
