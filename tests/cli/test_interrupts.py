"""Ctrl-C anywhere: exit code 130, one line, and of every file all or nothing. SIGTERM: the same, and 143."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from interrupting import interrupted_at, places, spread
from PIL import Image

from latentbrush.cli import main
from latentbrush.cli.interrupts import one_interrupt
from latentbrush.files import whole_folder

pytestmark = pytest.mark.capability("interrupts")

# Where files are read and written; in each of the others Ctrl-C is pressed once.
DENSE = {"files.py": 8, "pictures.py": 5, "weights.py": 3, "pipeline.py": 4, "folder.py": 2, "Image.py": 3}


def painting(model: Path, *more: str) -> list[str]:
    return ["txt2img", "a red heart", "--model", str(model), "--seed", "1", "--steps", "1", "--out", "new/x.png", *more]


def test_a_painting_is_whole_or_not_there(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the model is loaded, at every step, and while the picture is saved."""
    monkeypatch.chdir(tmp_path)

    def paint() -> None:
        with pytest.raises(SystemExit) as caught:
            main(painting(model_folder))
        codes.append(caught.value.code)

    codes: list[Any] = []
    paint()  # what is imported now cannot be interrupted below
    whole = Path("new/x.png").read_bytes()
    shutil.rmtree("new")
    seen = places(paint)
    shutil.rmtree("new")
    files = {Path(name).name for name in seen}
    assert files >= {"weights.py", "tokenizer_files.py", "pipeline.py", "unet.py", "files.py", "pictures.py"}
    numbers = set().union(*(spread(calls, DENSE.get(Path(name).name, 1)) for name, calls in seen.items()))
    codes.clear()
    finished = 0
    for number in sorted(numbers):
        capsys.readouterr()
        interrupted_at(number, paint)
        error = capsys.readouterr().err
        found = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert error in ("", "latentbrush: interrupted\n"), (number, error)
        assert codes[-1] == (130 if error else 0), number
        assert found in ([], [tmp_path / "new/x.png"]), number
        if found:  # it was saved already; what was left to do is to say so
            assert found[0].read_bytes() == whole
            finished += 1
        else:
            assert error, number
            assert list(tmp_path.iterdir()) == [], number
        shutil.rmtree("new", ignore_errors=True)
    assert codes.count(130) > 30
    assert 0 < finished < len(codes) // 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_of_several_pictures_stays(
    number: signal.Signals,
    code: int,
    run: Callable[..., Any],
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What is not handled would end the tests.
    signal.signal(signal.SIGTERM, lambda *_: None)
    save, saved = Image.Image.save, []

    def interrupted(self: Image.Image, file: Path, **options: Any) -> None:
        saved.append(file)
        save(self, file, **options)
        if len(saved) == 2:
            signal.raise_signal(number)

    monkeypatch.setattr(Image.Image, "save", interrupted)
    outcome = run(*painting(model_folder, "--count", "3", "--batch-size", "1"))
    assert (outcome.code, outcome.err) == (code, "latentbrush: interrupted\n")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x-0.png"]
    with Image.open(tmp_path / "new/x-0.png") as picture:
        picture.load()


def test_a_second_press_does_not_disturb_and_a_late_one_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("latentbrush.cli.interrupts.time.monotonic", lambda: now)
    before = signal.getsignal(signal.SIGINT)
    with one_interrupt():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        now += 1.9
        signal.raise_signal(signal.SIGINT)
        now += 0.2
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        now += 2
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_leaves_no_half_folder(tmp_path: Path) -> None:
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    with pytest.raises(KeyboardInterrupt), one_interrupt() as interrupt, whole_folder(tmp_path / "world") as new:
        (new / "half").write_text("half a file")
        assert len(list(tmp_path.iterdir())) == 1
        signal.raise_signal(signal.SIGTERM)
    assert interrupt.code == 143
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert not ended


def test_it_is_not_disturbed_while_python_ends() -> None:
    with pytest.raises(KeyboardInterrupt), one_interrupt():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


INTERRUPTED_IMPORT = """
import signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "pydantic":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
import latentbrush
from latentbrush.cli import main
main(["--help"])
"""


def test_nothing_is_slow_before_it_is_guarded(tmp_path: Path) -> None:
    """The libraries are imported where Ctrl-C has been set up already."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "latentbrush: interrupted\n")
