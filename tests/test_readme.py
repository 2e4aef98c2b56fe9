"""Every command and every Python block of the README runs, as a newcomer would run it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What the tests themselves are, or what takes an hour, is run in another way, below or by .ci/run.
BY_HAND = {"make demo", "make test", "make test-slow", "make models"}
# Building the data and training want the font's packages, and training is cut to a few steps here.
TRAINING = ("latentbrush data", "latentbrush train", "python benchmarks", "python docs/gallery.py")
SHORTER = {
    "latentbrush train recipes/emoji-autoencoder.yaml": ["--set", "steps=2", "--set", "batch=4"],
    "latentbrush train recipes/emoji.yaml": ["--set", "steps=2", "--set", "batch=4", "--set", "defaults.steps=1"],
    "python benchmarks/composition.py": ["--seeds", "1"],
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [" ".join(line.split("  #")[0].split()) for line in lines if line.strip()]


PAINTING = [line for line in commands() if line not in BY_HAND and not line.startswith(TRAINING)]
SLOW = [line for line in commands() if line.startswith(TRAINING)]


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
    """A checkout as a newcomer has it: the commands name recipes/, docs/ and benchmarks/."""
    path = tmp_path_factory.mktemp("newcomer")
    for name in ("recipes", "benchmarks", "docs"):
        (path / name).symlink_to(ROOT / name)
    return path


def test_the_readme_has_commands() -> None:
    assert commands()[0] == "make demo"
    assert {"make demo", "make test", "make models"} <= set(commands())
    assert len(PAINTING) >= 3
    assert len(SLOW) >= 3


def test_painting_commands(folder: Path) -> None:
    for line in PAINTING:
        done = run(line, folder)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


def test_python_blocks(tmp_path: Path) -> None:
    assert blocks("python")
    for code in blocks("python"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{code}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.emoji
def test_data_and_training_commands(folder: Path, debian_emoji: None) -> None:
    for line in SLOW:
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


def test_pictures_exist() -> None:
    pictures = re.findall(r'(?:src="|\]\()(docs/pictures/[^")]+)', README)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file(), picture
