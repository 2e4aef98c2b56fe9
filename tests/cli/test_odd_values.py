"""Whatever the options say, a painting command ends with 0 or with 2 and one line: never with a traceback."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from latentbrush.cli import main
from latentbrush.cli.paint import img2img, txt2img

# Half-letters arrive from a command line that is no UTF-8; NUL cannot, but from Python it can.
LETTERS = st.characters(exclude_categories=())
ODD = [
    "",
    " ",
    "0",
    "-1",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "9" * 5000,
    "0x10",
    "1_0",
    "٣",
    "½",
    "\0",
    "\udcff",
    "\u202e\x1b[2J",
]
TEXT = st.sampled_from([*ODD, "--", "-x", "a red heart", "x" * 100_000, "\u202eqed\u2069", "👩🏽‍🚀" * 30]) | st.text(
    LETTERS
)


def some(*good: Any, odd: st.SearchStrategy[Any] = TEXT) -> st.SearchStrategy[str]:
    """Good values four times out of five, so that a command of several options is often carried out."""
    return st.integers(0, 4).flatmap(lambda n: odd.map(str) if n == 4 else st.sampled_from(good).map(str))


def stays_here(path: str) -> bool:
    return ".." not in path and not path.startswith("/")


SIDES = st.integers(-9, 20) | st.integers(min_value=16_385)
SIZES = st.tuples(SIDES, SIDES).map("{0[0]}x{0[1]}".format)
PLACES = [".", "/proc/x.png", "file.png/x.png", "x.jpg", "missing/deep/x.PNG"]
# Nothing here is both allowed and large, for that would only be slow.
VALUES: dict[str, st.SearchStrategy[str]] = {
    "prompt": TEXT,
    "negative": TEXT,
    "model": some("MODEL", odd=TEXT | st.sampled_from(["./MODEL", "missing", ".", "/dev/null", "file.png"])),
    "steps": some(1, 2, 3, odd=TEXT | st.integers(max_value=3) | st.integers(min_value=1001)),
    "sampler": some("ddim", "euler", "dpmpp_2m", "heun", "euler_ancestral", "ddpm"),
    "guidance": some(1, 0, 2.5, -3, odd=TEXT | st.floats()),
    "seed": some(0, 1, 2**63 - 1, odd=TEXT | st.integers()),
    "count": some(1, 2, 3, odd=TEXT | st.integers(max_value=3) | st.integers(min_value=100_001)),
    "batch_size": some(1, 2, 100, odd=TEXT | st.integers()),
    "canvas": some("8x8", "4x6", "2X2", odd=TEXT | SIZES),
    "device": some("auto", "cpu", odd=TEXT | st.sampled_from(["cuda", "cuda:99", "mps", "meta", "cpu:1"])),
    "dtype": some("auto", "float32", "float16", "bfloat16", odd=TEXT | st.sampled_from(["int8", "torch.float32"])),
    "out": some("x.png", "new", "new/x.png", odd=TEXT.filter(stays_here) | st.sampled_from(PLACES)),
    "image": some("file.png", odd=TEXT | st.sampled_from(["absent.png", ".", "/dev/zero", "/dev/null"])),
    "strength": some(0, 0.5, 1, odd=TEXT | st.floats()),
}


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Any of the options that the command has by now, each with a value made for it, or with any text."""
    name, command = draw(st.sampled_from([("txt2img", txt2img), ("img2img", img2img)]))
    line: list[str] = [name]
    always = {"prompt", "model", "image", "steps"}
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name not in always and draw(st.integers(0, 3)):
            continue
        option = "--size" if parameter.name == "canvas" else f"--{parameter.name.replace('_', '-')}"
        if isinstance(parameter.default, bool):
            line.append(option)
        elif parameter.name == "prompt":
            line.append(draw(VALUES["prompt"]))
        else:
            line += [option, draw(VALUES.get(parameter.name, TEXT))]
    return line


@contextlib.contextmanager
def folder(model: Path) -> Iterator[Path]:
    """An empty working folder but for a picture, with the model in sight."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            Path("MODEL").symlink_to(model)
            Image.linear_gradient("L").resize((6, 9)).save("file.png")
            yield Path(name)
        finally:
            os.chdir(before)


def listing(here: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in here.rglob("*")}


def ended(line: list[str]) -> tuple[Any, str]:
    """The exit code and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as caught:
        main(line)
    return caught.value.code, err.getvalue()


@pytest.mark.capability("one-line-errors")
def test_odd_values(model_folder: Path) -> None:
    codes: list[int] = []

    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(command_lines())
    def check(line: list[str]) -> None:
        with folder(model_folder) as here:
            before = listing(here)
            code, err = ended(line)
            after = listing(here)
            new = sorted(set(after) - set(before))
            assert code in (0, 2), (code, err)
            assert all(after[name] == content for name, content in before.items())
            if code == 2:
                assert err.count("\n") == 1, err
                assert err.startswith("latentbrush: error: ")
                assert len(err) < 2100
                assert not new
            else:
                pictures = [name for name in new if after[name] is not None]
                assert pictures
                for name in pictures:
                    with Image.open(name) as picture:
                        picture.load()
        codes.append(code)

    check()
    # Else it would have proved little.
    assert min(codes.count(0), codes.count(2)) > 20
