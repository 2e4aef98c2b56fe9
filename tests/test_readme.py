"""Every command and every Python block of the README runs, as a newcomer would run it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# `make demo` has a test of its own below; the other two are how this test is run.
BY_HAND = {"make demo", "make test", "make test-slow"}
# The section on training wants the font's packages, and takes an hour and a half; here it takes a few steps.
SHORTER = {
    "latentbrush train recipes/emoji-autoencoder.yaml": ["--set", "steps=2", "--set", "batch=4"],
    "latentbrush train recipes/emoji-clip.yaml": ["--set", "steps=2", "--set", "batch=4"],
    "latentbrush train recipes/emoji.yaml": ["--set", "steps=2", "--set", "batch=4", "--set", "defaults.steps=1"],
    "latentbrush evaluate composition": ["--seeds", "1"],
    "latentbrush evaluate all": ["--steps", "2", "--bits-steps", "2"],
    "latentbrush evaluate fid": ["--steps", "2"],
    "python benchmarks/text_to_image.py": ["--repeats", "1", "--steps", "2", "--threads", "1"],
    "python benchmarks/loading.py": ["--repeats", "1", "--size", "tiny"],
    "python benchmarks/full_size.py": ["--repeats", "1", "--steps", "1", "--size", "tiny"],
}


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(text: str = README) -> list[str]:
    return [line.strip() for block in blocks("bash", text) for line in block.splitlines() if line.strip()]


def section(name: str) -> list[str]:
    return commands(re.split(r"^## ", README.split(f"\n## {name}\n")[1], flags=re.MULTILINE)[0])


TRAINING, SPEED = section("Train") + section("Measure"), section("Speed")
PAINTING = [line for line in commands() if line not in BY_HAND and line not in TRAINING + SPEED]


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program, *rest = shlex.split(line)
    extra = next((more for start, more in SHORTER.items() if line.startswith(start)), [])
    starts = {"latentbrush": [sys.executable, "-m", "latentbrush"], "python": [sys.executable]}
    assert program in starts, f"the README has a command that no test knows how to run: {line}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*starts[program], *rest, *extra], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout as a newcomer has it."""
    path = tmp_path_factory.mktemp("newcomer")
    for name in ("latentbrush", "recipes", "benchmarks", "docs"):
        (path / name).symlink_to(ROOT / name)
    return path


def test_the_readme_has_commands() -> None:
    assert commands()[0] == "make demo"
    assert set(commands()) >= BY_HAND
    assert len(PAINTING) >= 3
    assert len(TRAINING) >= 5


@pytest.mark.capability("readme-commands")
def test_painting_commands(folder: Path) -> None:
    for line in PAINTING:
        done = run(line, folder)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


@pytest.mark.capability("readme-commands")
def test_python_blocks(tmp_path: Path) -> None:
    assert blocks("python")
    for code in blocks("python"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{code}\n{done.stderr}"


@pytest.mark.capability("readme-commands")
@pytest.mark.slow
@pytest.mark.emoji
def test_data_and_training_commands(folder: Path, debian_emoji: None) -> None:
    for line in TRAINING:
        done = run(line, folder)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


@pytest.mark.capability("readme-commands")
@pytest.mark.slow
def test_the_benchmark(folder: Path) -> None:
    for line in SPEED:
        done = run(line, folder)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


@pytest.mark.slow
def test_make_demo_twice() -> None:
    """`make demo` in this checkout, whose environment the tests already run in, says where its picture is."""
    for _ in range(2):
        done = subprocess.run(["make", "demo"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "out/a-red-heart.png" in done.stdout
        assert (ROOT / "out" / "a-red-heart.png").is_file()


def test_the_rooms_are_those_of_the_contract_in_its_order() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = [layer.strip("()") for layer in settings["tool"]["importlinter"]["contracts"][0]["layers"]]
    rooms = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", README, flags=re.MULTILINE)
    there = {path.stem for path in (ROOT / "latentbrush").iterdir()} - {"__main__"}
    assert rooms == [layer for layer in layers if layer in there]


def test_pictures_exist() -> None:
    pictures = re.findall(r'(?:src="|\]\()(docs/pictures/[^")]+)', README)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file(), picture
