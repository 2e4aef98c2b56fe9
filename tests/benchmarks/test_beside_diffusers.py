"""The benchmark beside diffusers: its arithmetic, and a run as small as can be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from scripts import ROOT, load_script

benchmark = load_script("benchmarks/text_to_image.py")


def test_ratios_are_of_neighbours_and_judged_by_their_median() -> None:
    row = benchmark.Row("cold, wall", "s", limit=0.5)
    for mine, yours in [(1.0, 2.0), (9.0, 10.0), (1.0, 4.0)]:
        row.add("latentbrush", mine)
        row.add("diffusers", yours)
    assert row.ratios == [0.5, 0.9, 0.25]
    assert row.met
    assert row.cells() == ("cold, wall [s]", "1.00 (1.00-9.00)", "4.00 (2.00-10.00)", "0.50 (0.25-0.90)", "0.50 met")
    row.limit = 0.49
    assert row.cells()[-1] == "0.49 MISSED"
    assert benchmark.table([row]).count("\n") == 1


def test_the_largest_difference_is_that_of_any_pixel(tmp_path: Path) -> None:
    for side in benchmark.SIDES:
        for i in range(2):
            Image.new("RGB", (4, 4), (10, 20, 30)).save(tmp_path / f"{side}-{i}.png")
    assert benchmark.largest_difference(tmp_path, 2) == 0
    picture = Image.new("RGB", (4, 4), (10, 20, 30))
    picture.putpixel((3, 2), (10, 27, 30))
    picture.save(tmp_path / "diffusers-1.png")
    assert benchmark.largest_difference(tmp_path, 1) == 0
    assert benchmark.largest_difference(tmp_path, 2) == 7


@pytest.mark.slow
@pytest.mark.capability("beside-diffusers")
def test_a_run_finds_the_sides_agree_and_writes_its_numbers(tmp_path: Path) -> None:
    script, report = str(ROOT / "benchmarks" / "text_to_image.py"), tmp_path / "new" / "report.json"
    options = ["--repeats", "1", "--steps", "2", "--threads", "1", "--out", str(report)]
    done = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "4 pictures of 2 steps differ by at most" in done.stdout
    found = json.loads(report.read_text())
    assert found["largest_difference"] <= 1
    assert found["settings"] == {"repeats": 1, "steps": 2, "threads": 1}
    assert [row["name"] for row in found["rows"]] == [
        *("cold, wall", "cold, processor", "cold, peak memory"),
        *("warm, one picture, wall", "warm, one picture, processor"),
        *("warm, batch of 16, wall", "warm, batch of 16, processor", "warm, peak memory"),
    ]
    for row in found["rows"]:
        assert len(row["ours"]) == len(row["theirs"]) == 1
        assert min(row["ours"] + row["theirs"]) > 0, row
