"""The benchmark of full size, as small as can be, and the linear layer's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.capability("beside-diffusers")]


def run(script: str, *options: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_sides_paint_the_same_picture(tmp_path: Path) -> None:
    report = tmp_path / "new" / "report.json"
    said = run(
        "full_size.py", "--size", "tiny", "--repeats", "1", "--steps", "1", "--threads", "1", "--out", str(report)
    )
    assert "seed 0: " in said
    assert "peak memory of at most 16000 MB: met" in said
    found = json.loads(report.read_text())
    assert found["largest_difference"] <= 1
    assert [row["name"] for row in found["rows"]] == ["one picture, wall", "one picture, processor", "peak memory"]


def test_the_linear_layer_agrees_before_it_is_timed() -> None:
    assert run("linear.py", "--repeats", "1", "--threads", "1").count("\n") == 7
