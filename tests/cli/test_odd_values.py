"""Whatever the options say, a command ends with 0 or with 2 and one line: never with a traceback."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from made_up_emoji import make_emoji_folder
from PIL import Image
from typer.models import ArgumentInfo

from latentbrush.cli import main
from latentbrush.cli.diffuse import diffuse
from latentbrush.cli.evaluate import composition
from latentbrush.cli.info import info
from latentbrush.cli.paint import img2img, txt2img
from latentbrush.cli.reproduce import reproduce
from latentbrush.cli.tokens import tokens
from latentbrush.cli.train import train

Commands = dict[str, Callable[..., None]]
PAINTING: Commands = {"txt2img": txt2img, "img2img": img2img}
OTHERS: Commands = {
    "diffuse": diffuse,
    "tokens": tokens,
    "info": info,
    "reproduce": reproduce,
    "evaluate composition": composition,
    "train": train,
}

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
    "sigmas": some("spaced", "karras", "exponential", "beta", "simple", "sgm_uniform"),
    "guidance_rescale": some(0, 0.7, 1, odd=TEXT | st.floats()),
    "tiles": some("auto", "on", "off"),
    "prediction": some("epsilon", "v_prediction", "sample"),
    "weights": some("ema", "raw"),
    "noise_level": some(0, 20, odd=TEXT | st.integers()),
    "picture": some("file.png", odd=TEXT | st.sampled_from(["absent.png", ".", "/dev/zero"])),
    "refiner": some("MODEL", odd=TEXT | st.sampled_from(["missing", ".", "file.png"])),
    "handover": some(0.5, 0.8, odd=TEXT | st.floats()),
    "original_size": some("8x8", "4x6", odd=TEXT | SIZES),
    "target_size": some("8x8", "4x6", odd=TEXT | SIZES),
    "crop": some("0,0", "3,4", odd=TEXT | st.tuples(SIDES, SIDES).map("{0[0]},{0[1]}".format)),
    "aesthetic": some(6, 0, odd=TEXT | st.floats()),
    "negative_aesthetic": some(2.5, 10, odd=TEXT | st.floats()),
    "strength": some(0, 0.5, 1, odd=TEXT | st.floats()),
    "label": some(0, 3, odd=TEXT | st.integers()),
    "levels": some(2, 3, odd=TEXT | st.integers()),
    "file": some("painted.png", odd=TEXT | st.sampled_from(["file.png", "absent.png", ".", "/dev/zero"])),
    "data": some("DATA", odd=TEXT | st.sampled_from(["absent", ".", "file.png", "/dev/zero", "d\udcff"])),
    "seeds": some(1, 2, odd=TEXT | st.integers(max_value=2) | st.integers(min_value=101)),
    "recipe": some("recipe.yaml", odd=TEXT | st.sampled_from(["absent.yaml", ".", "file.png", "/dev/zero"])),
    "run": some("new", "new/run", odd=TEXT.filter(stays_here) | st.sampled_from(PLACES)),
    "overrides": some(
        "ema=0.5", "seed=3", odd=TEXT | st.sampled_from(["a.b", "=", "batch=[", "data=3", "data.size=0"])
    ),
}
ALWAYS = {"prompt", "model", "image", "steps", "out", "seeds", "data", "run"}
"""The options that nearly every line has, lest defaults decide what is tried."""
SELDOM = {
    *("mask", "control", "weights", "config", "fast_decoder", "label", "refiner", "handover"),
    *("original_size", "target_size", "crop", "aesthetic", "negative_aesthetic", "vae", "safety_check"),
}
"""Options that few models or pictures allow."""
RECIPE = """
stage: autoencoder
data: {path: DATA, size: 8}
autoencoder: {channels: [8], latent_channels: 2, layers_per_block: 1, mid_attention: false, groups: 4,
  scaling_factor: 1.0, sample_size: 8}
optimiser: {lr: 1.0e-3}
steps: 1
batch: 2
"""


@st.composite
def command_lines(draw: st.DrawFn, commands: Commands) -> list[str]:
    """Any of the options that a command has by now, each with a value made for it, or with any text."""
    name = draw(st.sampled_from(sorted(commands)))
    line = name.split()
    # At most one, in a line of three: however many there come to be, the others decide how most lines end.
    seldom = draw(st.sampled_from([*sorted(SELDOM), *[""] * 2 * len(SELDOM)]))
    hints = get_type_hints(commands[name], include_extras=True)
    for parameter in inspect.signature(commands[name]).parameters.values():
        declared = hints[parameter.name].__metadata__[0]
        argument = isinstance(declared, ArgumentInfo)
        # A picture was painted as it was, and over another only where it says so.
        always = argument or (parameter.name in ALWAYS and name != "reproduce")
        if parameter.name in SELDOM:
            left_out = parameter.name != seldom
        else:
            left_out = draw(st.integers(0, 29)) == 0 if always else bool(draw(st.integers(0, 3)))
        if left_out:
            continue
        # Within Annotated, the first of an option's own names arrives as its default.
        names = [name for name in (declared.default, *(declared.param_decls or ())) if isinstance(name, str)]
        option = next(iter(names), f"--{parameter.name.replace('_', '-')}")
        if isinstance(parameter.default, bool):
            line.append(option)
        else:
            value = draw(VALUES.get(parameter.name, TEXT))
            line += [value] if argument else [option, value]
    return line


@pytest.fixture(scope="session")
def stock(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lines may name: a model, a world of emoji, a picture and one that was painted, a recipe."""
    here = tmp_path_factory.mktemp("stock")
    (here / "MODEL").symlink_to(model_folder)
    make_emoji_folder(here / "world")
    (here / "DATA").symlink_to(here / "world")
    (here / "recipe.yaml").write_text(RECIPE)
    Image.linear_gradient("L").resize((6, 9)).save(here / "file.png")
    with contextlib.chdir(here):
        assert ended(["txt2img", "x", "--model", "MODEL", "--steps", "1", "--out", "painted.png"])[0] == 0
    return here


@contextlib.contextmanager
def folder(stock: Path) -> Iterator[Path]:
    """A working folder that has what lines may name, and nothing else."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            for name_ in ("MODEL", "DATA"):
                Path(name_).symlink_to((stock / name_).resolve())
            for name_ in ("file.png", "painted.png", "recipe.yaml"):
                Path(name_).write_bytes((stock / name_).read_bytes())
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


def check_all(stock: Path, commands: Commands, count: int) -> dict[tuple[str, int], int]:
    """How often each command ended with each code, in as many lines."""
    codes: Counter[tuple[str, int]] = Counter()

    @settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(command_lines(commands))
    def check(line: list[str]) -> None:
        with folder(stock) as here:
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
                pictures = [name for name in new if name.lower().endswith((".png", ".webp")) and after[name]]
                assert pictures or line[0] in ("tokens", "info")
                for name in pictures:
                    with Image.open(name) as picture:
                        picture.load()
        codes[line[0], code] += 1

    check()
    return codes


@pytest.mark.capability("one-line-errors")
def test_odd_values_to_paint_with(stock: Path) -> None:
    codes = check_all(stock, PAINTING, 170)
    # Else it would have proved little.
    for code in (0, 2):
        assert sum(codes[name, code] for name in PAINTING) > 20


@pytest.mark.capability("one-line-errors")
@pytest.mark.parametrize("name", OTHERS)
def test_odd_values_for_other_commands(name: str, stock: Path) -> None:
    codes = check_all(stock, {name: OTHERS[name]}, 25)
    assert sum(count for (_, code), count in codes.items() if code == 0) > 2, codes
    assert sum(count for (_, code), count in codes.items() if code == 2) > 2, codes


@pytest.mark.slow
@pytest.mark.capability("one-line-errors")
def test_very_many_odd_values(stock: Path) -> None:
    codes = check_all(stock, PAINTING | OTHERS, 2000)
    for name in PAINTING | OTHERS:
        # Of some 200; a command of many options, each odd one time in five, is seldom carried out.
        assert min(codes[name.split()[0], code] for code in (0, 2)) > 10, codes
