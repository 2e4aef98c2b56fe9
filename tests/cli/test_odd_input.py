"""Prompts, pictures and paths that nobody had in mind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latentbrush.cli import main
from latentbrush.formats import read_record

PROMPTS = {
    "empty": "",
    "long": "a red heart " * 8334,
    "one long word": "x" * 100_000,
    "control characters": "a\x07 red\x1b[31m\x00 heart\x7f\n\r\t",
    "right to left": "קשת בענן \u202eheart\u202c قوس قزح",
    "joined": "👩🏽‍🚀" * 100,
    "no letters": "\u200b\u200d\ufeff",
    "markup": "[bold]a[/bold] {0} %s",
}


def painting(model: Path, *arguments: str | Path) -> list[str | Path]:
    return ["txt2img", "--model", model, "--steps", "1", "--seed", "1", *arguments]


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS.keys())
def test_every_prompt_is_painted_and_kept(
    prompt: str, run: Callable[..., Any], model_folder: Path, tmp_path: Path
) -> None:
    outcome = run(*painting(model_folder, prompt, "--negative", prompt, "--guidance", "2"))
    assert outcome.code == 0, outcome.err
    (path,) = (tmp_path / "out").iterdir()
    assert path.name.isprintable()
    request = read_record(path).request
    assert (request.prompt, request.guidance.negative) == (prompt, prompt)
    for line in outcome.err.splitlines():  # what did not fit is said, in a line each that leaves the terminal as it is
        assert "is too long; left out: " in line
        assert line.isprintable()
        assert len(line) < 400


@pytest.mark.parametrize("option", ["--model", "--out", "--device", "--dtype", "--sampler"])
def test_an_empty_value_is_no_value(option: str, refused: Callable[..., str], model_folder: Path) -> None:
    """As an unset variable of a script leaves it: never the current folder."""
    line = refused(*painting(model_folder, "a red heart", "--out", "x.png", option, ""))
    assert "''" in line


def test_no_command_takes_an_empty_path(refused: Callable[..., str], model_folder: Path) -> None:
    assert "'' is no path" in refused("img2img", "x", "--model", model_folder, "--image", "")
    assert "'' is no path" in refused("train", "")
    assert "'' is no path" in refused("train", "recipe.yaml", "--run", "")
    assert "'' is no path" in refused("data", "emoji", "")


@pytest.mark.capability("finite-pictures")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "gpu"], ["device 'gpu' is not here; choose one of auto, cpu"]),
        (["--dtype", "int8"], ["dtype: ", "'float32', 'float16', 'bfloat16'", "not 'int8'"]),
        (["--batch-size", "0"], ["batch_size", "not 0"]),
        (["--batch-size", "many"], ["--batch-size", "'many'"]),
        (["--steps", "9" * 6000], ["a number of 6000 digits is too large; give one such as 20"]),
        (["--steps", "many"], ["'many' is not a whole number; give one such as 20"]),
        (["--out", f"{'x' * 252}.png"], ["File name too long; give one of at most 255 bytes"]),
        (["--out", "new/.png"], ["cannot write new/.png: it has no name before .png; name it new/picture.png"]),
        (["--guidance", "1e30"], ["not finite at guidance 1e+30; choose less guidance or more steps"]),
        (["--out", "\x1b[2J\u202e.jpg"], [r"cannot write \x1b[2J\u202e.jpg"]),
    ],
)
def test_values_that_are_refused(
    arguments: list[str], said: list[str], refused: Callable[..., str], model_folder: Path
) -> None:
    line = refused(*painting(model_folder, "a red heart", "--out", "new/x.png", *arguments))
    for words in said:
        assert words in line
    assert line.rstrip("\n").isprintable()
    assert len(line) < 2100


@pytest.mark.capability("device-options")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_type_is_chosen_and_written_down(
    dtype: str, run: Callable[..., Any], model_folder: Path, tmp_path: Path
) -> None:
    assert run(*painting(model_folder, "a red heart", "--dtype", dtype, "--device", "cpu", "--out", "x.png")).code == 0
    assert read_record(tmp_path / "x.png").request.model.dtype == dtype


@pytest.mark.capability("low-memory")
def test_low_memory_and_small_batches_change_no_picture(
    run: Callable[..., Any], model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentbrush.model import LatentDiffusion

    asked, one_part_on = [], LatentDiffusion.one_part_on

    def spied(self: LatentDiffusion, device: Any) -> LatentDiffusion:
        asked.append(str(device))
        return one_part_on(self, device)

    monkeypatch.setattr(LatentDiffusion, "one_part_on", spied)
    for out, more in {"plain": [], "low": ["--low-memory"], "one": ["--batch-size", "1"]}.items():
        assert run(*painting(model_folder, "a red heart", "--count", "2", "--out", f"{out}.png", *more)).code == 0
    assert asked == ["cpu"]
    for i in range(2):
        with Image.open(f"plain-{i}.png") as a, Image.open(f"low-{i}.png") as b, Image.open(f"one-{i}.png") as c:
            plain, low, one = (np.asarray(image).astype(int) for image in (a, b, c))
        assert np.array_equal(plain, low)
        assert np.abs(plain - one).max() <= 1  # kernels may round differently at another batch size
    assert read_record(tmp_path / "one-0.png").request.sampling.batch_size == 1


def from_picture(model: Path, image: str) -> list[str | Path]:
    return ["img2img", "a red heart", "--model", model, "--image", image, "--steps", "2", "--out", "new/x.png"]


@pytest.mark.parametrize("mode", ["CMYK", "1", "I;16", "P"])
def test_pictures_of_other_kinds_are_painted_over(
    mode: str, run: Callable[..., Any], model_folder: Path, tmp_path: Path
) -> None:
    image = Image.new("L", (1, 1), 255) if mode == "1" else Image.linear_gradient("L").resize((9, 6))
    kind = "tif" if mode == "CMYK" else "png"
    image.convert("I" if mode == "I;16" else "RGB").convert(mode).save(tmp_path / f"odd.{kind}")
    outcome = run(*from_picture(model_folder, f"odd.{kind}"))
    assert (outcome.code, outcome.err) == (0, "")


def test_a_damaged_picture_is_one_line_whatever_libraries_say(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """libtiff writes to standard error by itself, past Python."""
    monkeypatch.chdir(tmp_path)
    Image.linear_gradient("L").convert("RGB").save("whole.tif", compression="tiff_lzw")
    data = bytearray(Path("whole.tif").read_bytes())
    data[40:400] = b"\xff" * 360
    Path("spoilt.tif").write_bytes(data)
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in from_picture(model_folder, "spoilt.tif")])
    out, err = capfd.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("latentbrush: error: the picture spoilt.tif cannot be read (")
    assert not Path("new").exists()


def test_a_model_s_values_do_not_reach_the_terminal_raw(
    refused: Callable[..., str], model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad").mkdir()
    index = {"_class_name": "\x1b]0;title\x07", "unet": ["\u202eevil", "x" * 10**6]}
    (tmp_path / "bad/model_index.json").write_text(json.dumps(index))
    line = refused(*painting(tmp_path / "bad", "a red heart"))
    assert line.rstrip("\n").isprintable()
    assert len(line) < 2100
