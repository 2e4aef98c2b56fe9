"""`latentbrush txt2img` with a tiny model: what it writes, and what it refuses, in one line and writing nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latentbrush.diffusion import plans
from latentbrush.formats import METADATA_KEY, load_model, read_record
from latentbrush.pipeline import generate
from latentbrush.request import ImageRequest


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def painting(model: Path, *arguments: str | Path) -> list[str | Path]:
    return ["txt2img", "a red heart", "--model", model, *arguments]


@pytest.mark.capability("text-to-image")
def test_a_picture_lands_where_it_is_told(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    outcome = run(*painting(model_folder, "--seed", "5", "--out", "x.png"))
    assert (outcome.code, outcome.out, outcome.err) == (0, "x.png (seed 5)\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    with Image.open("x.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (8, 8))


def test_the_seed_is_random_and_printed_by_default(run: Callable[..., Any], model_folder: Path) -> None:
    seeds = []
    for i in range(2):
        out = run(*painting(model_folder, "--steps", "1", "--out", f"{i}.png")).out
        seeds.append(int(out.removeprefix(f"{i}.png (seed ").removesuffix(")\n")))
        assert read_record(Path(f"{i}.png")).request.sampling.seed == seeds[-1]
    assert seeds[0] != seeds[1]  # equal by chance once in four thousand million runs


def test_several_pictures_are_numbered(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    outcome = run(*painting(model_folder, "--seed", "5", "--count", "3", "--out", "x.png"))
    assert outcome.out == "x-0.png (seed 5)\nx-1.png (seed 6)\nx-2.png (seed 7)\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x-0.png", "x-1.png", "x-2.png"]
    for i in range(3):
        run(*painting(model_folder, "--seed", str(5 + i), "--out", f"alone-{i}.png"))
        together, alone = pixels(Path(f"x-{i}.png")), pixels(Path(f"alone-{i}.png"))
        # Kernels may round differently at another batch size; a pixel may then fall on the other side.
        assert np.abs(together - alone).max() <= 1
    assert np.abs(pixels(Path("x-0.png")) - pixels(Path("x-1.png"))).max() > 1


@pytest.mark.parametrize("out", ["folder", "folder/", "folder/deeper", None])
def test_a_folder_takes_names_from_prompt_and_seed(
    out: str | None, run: Callable[..., Any], model_folder: Path, tmp_path: Path
) -> None:
    arguments = painting(model_folder, "--seed", "5", "--steps", "1", *(["--out", out] if out else []))
    assert run(*arguments).code == 0
    assert (tmp_path / (out or "out") / "a-red-heart-5.png").is_file()


@pytest.mark.capability("png-metadata")
def test_the_picture_carries_its_request(run: Callable[..., Any], model_folder: Path) -> None:
    arguments = ["--steps", "2", "--sampler", "euler", "--guidance", "1.5", "--size", "12x8", "--seed", "5"]
    run(*painting(model_folder, *arguments, "--negative", "파란색", "--count", "2", "--out", "x.png"))
    request = read_record(Path("x-1.png")).request
    assert (request.canvas.width, request.canvas.height) == (12, 8)
    sampling = request.sampling
    assert (sampling.sampler, sampling.steps, sampling.seed, sampling.count) == ("euler", 2, 5, 2)
    assert (request.guidance.weight, request.guidance.negative) == (1.5, "파란색")
    assert request.model.name == str(model_folder)
    assert ImageRequest.model_validate_json(request.model_dump_json()) == request
    with Image.open("x-1.png") as image:
        metadata = json.loads(image.text[METADATA_KEY])  # type: ignore[attr-defined]
    assert metadata["index"] == 1
    assert metadata["request"] == request.model_dump(mode="json")


def nones(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"{key}.{rest}" for key, inner in value.items() for rest in nones(inner)]
    return ["None"] if value is None else []


def test_painting_the_carried_request_again_gives_the_same_pixels(run: Callable[..., Any], model_folder: Path) -> None:
    run(*painting(model_folder, "--count", "2", "--out", "x.png"))
    request = read_record(Path("x-0.png")).request
    # No picture to start from or to read, no sizes or class to be told, nothing beside the model's own files; every
    # other choice is written down, not left to a model's defaults.
    unsaid: dict[str, Any] = dict.fromkeys(("start", "control", "micro", "label"), True)
    unsaid["model"] = {"prediction", "weights", "fast_decoder", "vae"}
    assert nones(request.model_dump(exclude=unsaid)) == []
    images = generate(load_model(request.model.name, sampler=request.sampling.sampler), request)
    for i, image in enumerate(images):
        assert np.array_equal(np.asarray(image.image), pixels(Path(f"x-{i}.png")))
        assert image.request == request


@pytest.mark.capability("text-to-image")
def test_options_change_the_picture(run: Callable[..., Any], model_folder: Path) -> None:
    changes = {
        "plain": [],
        "seed": ["--seed", "6"],
        "steps": ["--steps", "2"],
        "sampler": ["--sampler", "dpmpp_2m"],
        "sigmas": ["--sampler", "dpmpp_2m", "--sigmas", "karras"],
        "guidance": ["--guidance", "20"],
        "rescaled": ["--guidance", "20", "--guidance-rescale", "0.7"],
        "negative": ["--guidance", "20", "--negative", "a blue cat"],
    }
    seen = {}
    for name, arguments in changes.items():
        assert run(*painting(model_folder, "--seed", "5", *arguments, "--out", f"{name}.png")).code == 0
        seen[name] = pixels(Path(f"{name}.png")).tobytes()
    assert len(set(seen.values())) == len(changes)


def test_overwriting_must_be_asked_for(
    run: Callable[..., Any], refused: Callable[..., str], model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "x-1.png").write_bytes(b"mine")
    three = painting(model_folder, "--count", "3", "--out", "x.png")
    assert "x-1.png exists" in refused(*three)
    assert run(*three, "--overwrite").code == 0
    assert pixels(tmp_path / "x-1.png").shape == (8, 8, 3)
    (tmp_path / "folder.png").mkdir()
    assert run(*painting(model_folder, "--out", "folder.png", "--seed", "1")).code == 0  # a folder is a folder
    assert (tmp_path / "folder.png" / "a-red-heart-1.png").is_file()


def test_an_over_long_prompt_is_painted_and_what_is_left_out_is_said(
    run: Callable[..., Any], model_folder: Path
) -> None:
    outcome = run("txt2img", "a red heart 1 2 3 4 5 6 7 8 9", "--model", model_folder, "--out", "x.png")
    assert outcome.code == 0
    assert outcome.err.count("\n") == 1
    assert "too long; left out: '" in outcome.err
    assert outcome.err.rstrip().endswith("9'")


BAD_VALUES = {
    "sampler": (["--sampler", "magic"], ["'magic'", "ddim, euler, dpmpp_2m"]),
    "sigmas": (["--sigmas", "magic", "--sampler", "euler"], ["'magic'", "spaced, karras"]),
    "sigmas, none": (["--sigmas", "karras", "--sampler", "ddim"], ["'karras' for ddim", "choose one of euler"]),
    "rescale 2": (["--guidance-rescale", "2"], ["rescale", "2"]),
    "size, not a multiple": (["--size", "9x8"], ["9x8", "multiples of 2", "10x8"]),
    "size, below one cell": (["--size", "1x31"], ["1x31", "2x32"]),
    "size 0": (["--size", "0x0"], ["'0x0'", "WIDTHxHEIGHT"]),
    "size, too large": (["--size", "99999x32"], ["'99999x32': width", "equal to 16384, not 99999", "to 16384x16384"]),
    "size, too high": (["--size", "32x99999"], ["'32x99999': height", "not 99999"]),
    "size, one side": (["--size", "8"], ["'8'", "WIDTHxHEIGHT"]),
    "size, three sides": (["--size", "8x8x8"], ["'8x8x8'"]),
    "size, words": (["--size", "big"], ["'big'"]),
    "size, negative": (["--size", "-8x8"], ["'-8x8'"]),
    "size, fraction": (["--size", "8.5x8"], ["'8.5x8'"]),
    "steps 0": (["--steps", "0"], ["steps", "not 0"]),
    "steps -1": (["--steps", "-1"], ["steps", "not -1"]),
    "steps 1001": (["--steps", "1001"], ["1001 steps", "1 to 1000"]),
    "steps, fraction": (["--steps", "2.5"], ["--steps", "'2.5'"]),
    "count 0": (["--count", "0"], ["count", "not 0"]),
    "count, words": (["--count", "two"], ["--count", "'two'"]),
    "guidance nan": (["--guidance", "nan"], ["--guidance", "'nan'"]),
    "guidance inf": (["--guidance", "inf"], ["--guidance", "'inf'"]),
    "guidance -inf": (["--guidance", "-inf"], ["--guidance", "'-inf'"]),
    "guidance 1e999": (["--guidance", "1e999"], ["--guidance", "'1e999'"]),
    "guidance, words": (["--guidance", "abc"], ["--guidance", "'abc'"]),
    "seed, fraction": (["--seed", "1.5"], ["--seed", "'1.5'"]),
    "seed -1": (["--seed", "-1"], ["seed", "not -1"]),
    "seed 2**63": (["--seed", str(2**63)], ["seed", str(2**63)]),
    "last seed 2**63": (["--seed", str(2**63 - 1), "--count", "2"], [str(2**63 - 1), "2 pictures"]),
    "model, absent": (["--model", "no/model"], ["'no/model'", "does not exist"]),
    "model, empty": (["--model", "empty"], ["empty has no model_index.json", "nothing"]),
    "model, a device": (["--model", "/dev/null"], ["/dev/null"]),
    "model, a file": (["--model", "file"], ["file is neither a safetensors file"]),
    "model, name too long": (["--model", "m" * 300], ["m" * 300]),
    "out, exists": (["--out", "there.png"], ["there.png exists", "--overwrite"]),
    "out, below a file": (["--out", "file/x.png"], ["folder file", "--out"]),
    "out, not to be made": (["--out", "/proc/nowhere/x.png"], ["/proc/nowhere", "--out"]),
    "out, a jpg": (["--out", "x.jpg"], ["x.jpg", "x.png"]),
    "out, name too long": (["--out", "n" * 300 + ".png"], ["n" * 300]),
    "unknown option": (["--sharpness", "3"], ["--sharpness"]),
    "option without value": (["--steps"], ["--steps"]),
    "two prompts": (["blue"], ["blue"]),
    "negative, no Unicode": (["--negative", "\udcff"], ["negative", r"\udcff"]),
}


@pytest.mark.capability("one-line-errors")
@pytest.mark.parametrize(("arguments", "said"), BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_bad_values_are_refused_in_one_line(
    arguments: list[str], said: list[str], refused: Callable[..., str], model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no model", encoding="utf-8")
    (tmp_path / "there.png").write_bytes(b"mine")
    # The folder `new` must not appear either: it would be made for pictures that never come.
    line = refused(*painting(model_folder, "--out", "new/deep/x.png", *arguments))
    for words in said:
        assert words in line


def test_a_prompt_is_needed_and_must_be_unicode(refused: Callable[..., str], model_folder: Path) -> None:
    assert "'prompt'" in refused("txt2img", "--model", model_folder)
    assert r"\udcff" in refused("txt2img", "\udcff", "--model", model_folder)


def test_a_folder_without_permission_is_refused(
    refused: Callable[..., str], model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write everywhere, so the system's answer is made up.
    monkeypatch.setattr("latentbrush.formats.pictures.os.access", lambda path, mode: False)
    for out in ("x.png", "new/x.png"):
        assert "permission denied" in refused(*painting(model_folder, "--out", out))


def test_a_full_disk_is_one_line_and_leaves_no_half_picture(
    refused: Callable[..., str], model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Image.Image, file: Path, **_: Any) -> None:
        file.write_bytes(b"half a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    line = refused(*painting(model_folder, "--out", "x.png"))
    assert "x.png" in line
    assert "No space left on device" in line


def test_ctrl_c_ends_with_130_and_writes_nothing(
    run: Callable[..., Any], model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def interrupted(denoise: Any, x: Any, steps: Any, *_: Any, **__: Any) -> None:
        calls.append(len(steps))
        denoise(x, steps[0].at)
        raise KeyboardInterrupt

    ddim = plans.SAMPLERS["ddim"]
    monkeypatch.setitem(plans.SAMPLERS, "ddim", dataclasses.replace(ddim, run=interrupted))  # type: ignore[arg-type]
    outcome = run(*painting(model_folder, "--out", "new/x.png"))
    assert calls == [3]
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err.strip() == "latentbrush: interrupted"
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_would_steer_the_terminal_is_escaped(run: Callable[..., Any], model_folder: Path) -> None:
    outcome = run(*painting(model_folder, "--seed", "5", "--out", "a\nb\x1b[31m.png"))
    assert outcome.code == 0
    assert outcome.out.splitlines() == ["'a\\nb\\x1b[31m.png' (seed 5)"]
    assert Path("a\nb\x1b[31m.png").is_file()
