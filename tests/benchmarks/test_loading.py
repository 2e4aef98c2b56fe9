"""The benchmark of loading: a run at a hundredth of the size, and that unequal tensors end it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from scripts import ROOT, load_script


@pytest.mark.slow
@pytest.mark.capability("loading-beside-diffusers")
def test_a_run_finds_equal_tensors_and_writes_its_numbers(tmp_path: Path) -> None:
    report = tmp_path / "new" / "report.json"
    options = ["--repeats", "1", "--size", "tiny", "--dtypes", "float16", "--out", str(report)]
    script = str(ROOT / "benchmarks" / "loading.py")
    done = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "float16: both sides hold the same tensors" in done.stdout
    found = json.loads(report.read_text())
    names = (
        *("fresh process, until ready", "opened", "opened, processor", "ready"),
        *("peak memory to open", "peak memory to be ready", "peak memory, libraries too"),
    )
    assert [row["name"] for row in found["rows"]] == [f"float16, {name}" for name in names]
    for row in found["rows"]:
        assert len(row["ours"]) == len(row["theirs"]) == 1
    assert found["bytes"]["float16"] > 1e6


@pytest.mark.slow
@pytest.mark.capability("loading-beside-diffusers")
def test_unequal_tensors_end_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    loading = load_script("benchmarks/loading.py")
    loading.write_model(tmp_path, loading.family("tiny"), torch.float16)
    path = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    asked = loading.asked

    def spoilt(side: str, *arguments: object) -> object:
        if side == "diffusers":
            state = load_file(path)
            state["quant_conv.bias"][0] += 1
            save_file(state, path, metadata={"format": "pt"})
        return asked(side, *arguments)

    monkeypatch.setattr(loading, "asked", spoilt)
    with pytest.raises(SystemExit, match="in float16 the sides do not hold the same tensors: vae"):
        loading.check_equal(tmp_path, "float16")
