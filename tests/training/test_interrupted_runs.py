"""Ctrl-C while training: exit code 130, whole files only, and --resume ends as if nobody had pressed it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from interrupting import interrupted_at, places, spread
from PIL import Image
from tiny_world import autoencoder_values

from latentbrush.cli import main

pytestmark = pytest.mark.capability("interrupts")

WEIGHTS = "model/vae/diffusion_pytorch_model.safetensors"
# Where a run is kept, and where it is trained: the rest is data and networks, which leave nothing behind.
FILES = {"run.py": 5, "files.py": 5, "loop.py": 2, "ema.py": 1, "weights.py": 1}


def test_a_run_is_whole_wherever_it_is_interrupted(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    values = autoencoder_values(world, steps=2, batch=2, validate_every=2, checkpoint_every=1)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    codes: list[Any] = []

    def run(*more: str) -> None:
        with pytest.raises(SystemExit) as caught:
            main(["train", "recipe.yaml", "--run", "run", *more])
        codes.append(caught.value.code)

    run()
    expected = Path("run", WEIGHTS).read_bytes()
    shutil.rmtree("run")
    seen = places(run)
    shutil.rmtree("run")
    numbers = set().union(*(spread(calls, FILES.get(Path(name).name, 0)) for name, calls in seen.items()))
    assert codes == [0, 0]
    assert len(numbers) > 10
    resumed = 0
    for number in sorted(numbers):
        capsys.readouterr()
        codes.clear()
        interrupted_at(number, run)
        assert codes == [130], number
        assert capsys.readouterr().err == "latentbrush: interrupted\n", number
        check_whole(tmp_path, number)
        if Path("run").exists():
            resumed += 1
            run("--resume")
        else:
            run()
        assert codes == [130, 0], (number, capsys.readouterr().err)
        assert Path("run", WEIGHTS).read_bytes() == expected, number
        shutil.rmtree("run")
    assert resumed > 5


def check_whole(folder: Path, number: int) -> None:
    for path in folder.rglob("*"):
        assert not path.name.endswith(".part"), (number, path)
    if (folder / "run").exists():
        yaml.safe_load((folder / "run/recipe.yaml").read_text())
    for checkpoint in folder.rglob("checkpoint.pt"):
        torch.load(checkpoint, weights_only=True)
    for sheet in folder.rglob("step-*.png"):
        with Image.open(sheet) as picture:
            picture.load()
