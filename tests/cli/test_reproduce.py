"""`latentbrush reproduce` with a tiny model: the same pixels, and where they go."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from reproducing import again, changed, foreign, paint, photo, request

from latentbrush.diffusion import SAMPLERS
from latentbrush.formats import (
    METADATA_KEY,
    PARAMETERS_KEY,
    load_photo,
    read_record,
    read_texts,
)
from latentbrush.request import Batch, Start

pytestmark = pytest.mark.capability("reproduce")


@pytest.mark.parametrize(
    ("index", "batch"), [(2, Batch(first=0, size=3)), (3, Batch(first=3, size=2)), (4, Batch(first=3, size=2))]
)
def test_any_picture_of_a_request_in_its_batch(
    run: Callable[..., Any], model_folder: Path, tmp_path: Path, index: int, batch: Batch
) -> None:
    files = paint(request(model_folder, sampler="euler_ancestral", count=5, batch_size=3), tmp_path)
    assert len({file.read_bytes() for file in files}) == 5
    assert read_record(files[index]).batch == batch
    out = again(run, files[index])
    assert read_record(out).batch == batch


@pytest.mark.parametrize("sampler", [None, *SAMPLERS])
def test_pictures_of_every_sampler(run: Callable[..., Any], model_folder: Path, sampler: str | None) -> None:
    arguments = [] if sampler is None else ["--sampler", sampler, "--steps", "4"]  # which pndm wants
    assert run("txt2img", "a red heart", "--model", model_folder, "--out", "x.png", *arguments).code == 0
    again(run, Path("x.png"))


def test_the_model_is_read_as_it_was(run: Callable[..., Any], model_copy: Path, tmp_path: Path) -> None:
    """diffusers' Heun does not know zero-terminal-SNR schedules, which a chosen sampler does."""
    index = json.loads((model_copy / "model_index.json").read_text())
    index["scheduler"][1] = "HeunDiscreteScheduler"
    (model_copy / "model_index.json").write_text(json.dumps(index))
    config = json.loads((model_copy / "scheduler" / "scheduler_config.json").read_text())
    config["rescale_betas_zero_snr"] = True
    (model_copy / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    [file] = paint(request(model_copy), tmp_path)
    assert (read_record(file).request.sampling.sampler, read_record(file).model.sampler) == ("heun", None)
    again(run, file)


def test_the_same_kind_of_numbers(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    import torch

    [file] = paint(request(model_folder), tmp_path, dtype=torch.float64)
    assert read_record(file).machine.dtype == "float64"
    again(run, file)


@pytest.mark.parametrize("strength", [0.0, 0.7])
def test_a_picture_over_another(
    run: Callable[..., Any], refused: Callable[..., str], model_folder: Path, tmp_path: Path, strength: float
) -> None:
    start = photo(tmp_path / "start.png")
    sha256 = load_photo(start).sha256
    wanted = request(model_folder, Start(image=sha256, strength=strength), count=2)
    file = paint(wanted, tmp_path, start)[1]
    line = refused("reproduce", file)
    assert f"x-1.png was painted over another picture, whose file has the SHA-256 {sha256}" in line
    assert "give it with --image" in line
    line = refused("reproduce", file, "--image", file)
    assert f"its SHA-256 is {load_photo(file).sha256}, needed is {sha256}" in line
    assert "absent.png does not exist" in refused("reproduce", file, "--image", "absent.png")
    again(run, file, "--image", start)


def test_a_strength_of_one_needs_no_picture(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    start = photo(tmp_path / "start.png")
    wanted = request(model_folder, Start(image=load_photo(start).sha256, strength=1))
    [file] = paint(wanted, tmp_path, start)
    again(run, file)


def test_a_picture_from_noise_takes_no_other(refused: Callable[..., str], model_folder: Path, tmp_path: Path) -> None:
    [file] = paint(request(model_folder), tmp_path)
    assert "x-0.png was painted from noise, over no picture; leave out --image" in refused(
        "reproduce", file, "--image", file
    )


def test_places(run: Callable[..., Any], refused: Callable[..., str], model_folder: Path, tmp_path: Path) -> None:
    [file] = paint(request(model_folder), tmp_path)
    assert run("reproduce", file, "--out", "y.png").code == 0
    assert "y.png exists; name another --out, or replace it with --overwrite" in refused(
        "reproduce", file, "--out", "y.png"
    )
    assert run("reproduce", file, "--out", "y.png", "--overwrite").code == 0
    assert run("reproduce", file, "--out", "folder").code == 0
    assert (tmp_path / "folder" / "x-0-reproduced.png").is_file()
    assert "pictures are PNG files" in refused("reproduce", file, "--out", "y.jpg")


@pytest.mark.capability("no-metadata")
def test_no_metadata(run: Callable[..., Any], refused: Callable[..., str], model_folder: Path, tmp_path: Path) -> None:
    start = photo(tmp_path / "start.png")
    common = ["--model", model_folder, "--seed", "5", "--out", "x.png", "--overwrite"]
    seen = set()
    for arguments in (["txt2img", "a red heart"], ["img2img", "a red heart", "--image", start]):
        for metadata in ([], ["--no-metadata"]):
            assert run(*arguments, *common, *metadata).code == 0
            data = Path("x.png").read_bytes()
            assert any(kind in data for kind in (b"tEXt", b"iTXt", b"zTXt")) is not bool(metadata)
            with Image.open("x.png") as image:
                seen.add(image.tobytes())
        assert "x.png does not say how it was painted" in refused("reproduce", "x.png")
    assert len(seen) == 2  # the option changes no pixel


@pytest.mark.capability("denoising-strip", "denoising-animation")
def test_the_way_is_shown_again(run: Callable[..., Any], refused: Callable[..., str], model_folder: Path) -> None:
    """Of the second picture of its batch, which is painted whole."""
    painting = ["txt2img", "a red heart", "--model", model_folder, "--seed", "5", "--count", "3", "--out", "x.png"]
    assert run(*painting, "--strip", "--animate").code == 0
    outcome = run("reproduce", "x-1.png", "--strip", "--animate", "--out", "y.png")
    assert outcome.out == "y.png (seed 6): identical to x-1.png\ny-strip.png\ny-animation.webp\n"
    for ending in ("-strip.png", "-animation.webp"):
        assert Path(f"y{ending}").read_bytes() == Path(f"x-1{ending}").read_bytes()
    assert Path("x-1-strip.png").read_bytes() != Path("x-0-strip.png").read_bytes()
    Path("y.png").unlink()
    assert "y-strip.png exists" in refused("reproduce", "x-1.png", "--strip", "--out", "y.png")


def test_without_metadata_it_is_only_the_picture(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    [file] = paint(request(model_folder), tmp_path)
    outcome = run("reproduce", file, "--no-metadata", "--out", "y.png")
    assert outcome.out == f"y.png (seed 5): identical to {file}\n"
    assert read_texts(file)
    assert read_texts(Path("y.png")) == {}


@pytest.mark.capability("device-options")
def test_where_it_is_painted_can_be_chosen(
    run: Callable[..., Any],
    refused: Callable[..., str],
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from latentbrush.model import LatentDiffusion

    asked, one_part_on = [], LatentDiffusion.one_part_on

    def spied(self: LatentDiffusion, device: Any) -> LatentDiffusion:
        asked.append(str(device))
        return one_part_on(self, device)

    monkeypatch.setattr(LatentDiffusion, "one_part_on", spied)
    [ours] = paint(request(model_folder), tmp_path)
    theirs = foreign(tmp_path / "theirs.png", PARAMETERS_KEY, "a heart\nSteps: 2, Seed: 7, RNG: CPU")
    again(run, ours, "--device", "cpu", "--low-memory")
    assert run("reproduce", theirs, "--model", model_folder, "--device", "cpu", "--low-memory").code == 0
    assert asked == ["cpu", "cpu"]
    for file in (ours, theirs):
        line = refused("reproduce", file, "--model", model_folder, "--device", "gpu", "--overwrite")
        assert "device 'gpu' is not here; choose one of auto, cpu" in line


@pytest.mark.capability("device-options")
def test_the_type_is_chosen_where_the_picture_does_not_say(
    run: Callable[..., Any], refused: Callable[..., str], model_folder: Path, tmp_path: Path
) -> None:
    import torch

    [file] = paint(request(model_folder), tmp_path, dtype=torch.bfloat16)
    again(run, file, "--dtype", "bfloat16")
    line = refused("reproduce", file, "--dtype", "float32", "--overwrite")
    assert f"--dtype is float32, but {file} was painted in bfloat16" in line
    assert line.endswith("leave out --dtype\n")
    theirs = foreign(tmp_path / "theirs.png", PARAMETERS_KEY, "a heart\nSteps: 2, Seed: 7, RNG: CPU")
    record = json.loads(read_texts(file)[METADATA_KEY])
    del record["machine"], record["request"]["model"]["dtype"]
    early = foreign(tmp_path / "early.png", METADATA_KEY, json.dumps(record))
    for silent in (theirs, early):
        assert run("reproduce", silent, "--model", model_folder, "--dtype", "float16", "--overwrite").code == 0
        assert read_record(Path("out") / f"{silent.stem}-reproduced.png").machine.dtype == "float16"


@pytest.mark.capability("tiles")
@pytest.mark.parametrize("tiles", ["on", "auto", "off"])
def test_pictures_in_tiles(run: Callable[..., Any], model_folder: Path, tiles: str) -> None:
    """The tiny model's tiles are of 8 x 8 pixels."""
    arguments = ("--model", model_folder, "--size", "20x12", "--seed", "1")
    assert run("txt2img", "a cat", *arguments, "--tiles", tiles, "--out", "x.png").code == 0
    done = "on" if tiles == "on" else "off"
    assert read_record(Path("x.png")).request.canvas.tiles == done
    again(run, Path("x.png"))
    assert run("txt2img", "a cat", *arguments, "--tiles", "off", "--out", "whole.png").code == 0
    with Image.open("x.png") as one, Image.open("whole.png") as other:
        assert (one.tobytes() == other.tobytes()) == (done == "off")


@pytest.mark.capability("tiles")
def test_pictures_of_before_there_were_tiles(
    run: Callable[..., Any], model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentbrush import latents

    [file] = paint(request(model_folder), tmp_path)
    wanted = json.loads(read_texts(file)[METADATA_KEY])["request"]
    del wanted["canvas"]["tiles"]
    changed(file, request=wanted)
    monkeypatch.setattr(latents, "TILES_BEYOND", 1)
    assert run("reproduce", file).out.endswith(f"identical to {file}\n")


@pytest.mark.capability("tiles")
def test_unknown_tiles(refused: Callable[..., str], model_folder: Path) -> None:
    line = refused("txt2img", "a cat", "--model", model_folder, "--tiles", "maybe")
    assert "'maybe' is unknown; choose auto, on or off" in line
    assert "'decode' is unknown" in refused("txt2img", "a cat", "--model", model_folder, "--tiles", "decode")


@pytest.mark.capability("single-file")
def test_how_its_model_was_read_is_said_as_when_it_was_painted(run: Callable[..., Any], model_folder: Path) -> None:
    """And what of a long prompt was left out."""
    assert run("convert", model_folder, "tiny.safetensors", "--to", "single-file").code == 0
    painted = run("txt2img", "heart " * 40, "--model", "tiny.safetensors", "--seed", "1", "--out", "x.png")
    again = run("reproduce", "x.png")
    assert (painted.code, again.code) == (0, 0), again.err
    assert painted.err.startswith("latentbrush: tiny.safetensors: as its own header says; prediction epsilon")
    assert "latentbrush: the prompt is too long; left out: " in painted.err
    assert again.err == painted.err
    assert again.out == "out/x-reproduced.png (seed 1): identical to x.png\n"
    outcome = run("diffuse", "x.png", "--model", "tiny.safetensors", "--levels", "2", "--out", "y.png")
    assert outcome.err == painted.err.splitlines(keepends=True)[0]
