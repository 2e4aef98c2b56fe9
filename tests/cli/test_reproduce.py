"""`latentbrush reproduce` with a tiny model: the same pixels, or what differs; and files that lie."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from latentbrush.diffusion import SAMPLERS
from latentbrush.formats import (
    METADATA_KEY,
    PARAMETERS_KEY,
    load_model,
    load_photo,
    read_record,
    read_texts,
    save_model,
    save_picture,
    texts_of,
)
from latentbrush.pipeline import stream
from latentbrush.request import Batch, Canvas, GuidanceRequest, ImageRequest, ModelRequest, Sampling, Start

pytestmark = pytest.mark.capability("reproduce")


@pytest.fixture
def model_copy(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model to change."""
    return Path(shutil.copytree(model_folder, tmp_path_factory.mktemp("copy") / "tiny"))


def request(model: Path, start: Start | None = None, **sampling: Any) -> ImageRequest:
    return ImageRequest(
        prompt="a red heart",
        model=ModelRequest(name=str(model)),
        canvas=Canvas(width=12, height=8),
        sampling=Sampling(**{"steps": 3, "seed": 5, **sampling}),
        guidance=GuidanceRequest(weight=7.5, negative="파란색"),
        start=start or Start(),
    )


def paint(wanted: ImageRequest, folder: Path, photo: Path | None = None, **options: Any) -> list[Path]:
    """As commands do, with what they have no option for."""
    model = load_model(wanted.model.name, **options)
    images = {} if photo is None else dict([load_photo(photo)])
    paths = []
    for picture in stream(model, wanted, images=images):
        paths.append(folder / f"x-{picture.index}.png")
        save_picture(picture.image, paths[-1], texts_of(model, picture.record(model)))
    return paths


def photo(path: Path) -> Path:
    Image.linear_gradient("L").resize((24, 16)).convert("RGB").save(path)
    return path


def again(run: Callable[..., Any], file: Path, *arguments: str | Path) -> Path:
    """Reproduced, identical to the pixel, and with the same record."""
    outcome = run("reproduce", file, "--overwrite", *arguments)
    out = Path("out") / f"{file.stem}-reproduced.png"
    seed = read_record(file).seed
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"{out} (seed {seed}): identical to {file}\n"
    with Image.open(file) as first, Image.open(out) as second:
        assert first.tobytes() == second.tobytes()
    assert read_texts(out) == read_texts(file)
    return out


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


def test_other_weights_are_named(run: Callable[..., Any], model_copy: Path, tmp_path: Path) -> None:
    [file] = paint(request(model_copy), tmp_path)
    model = load_model(model_copy)
    model.unet.conv_out.weight.data.mul_(1.5)
    save_model(model, model_copy, overwrite=True)
    outcome = run("reproduce", file)
    assert outcome.code == 0
    first, *others = outcome.out.splitlines()
    assert first.startswith("out/x-0-reproduced.png (seed 5): ")
    assert "of 96 pixels differ, by at most " in first
    assert first.endswith(f" of 255, from {file}")
    [line] = others
    before, after = (read_record(path).model.weights for path in (file, Path("out/x-0-reproduced.png")))
    unet = "unet/diffusion_pytorch_model.safetensors"
    assert line == f"- the weights '{unet}': SHA-256 {after[unet][:10]}..., painted with {before[unet][:10]}..."


def test_another_model_can_be_chosen(
    run: Callable[..., Any], refused: Callable[..., str], model_copy: Path, tmp_path: Path
) -> None:
    [file] = paint(request(model_copy), tmp_path)
    moved = model_copy.rename(model_copy.with_name("moved"))
    line = refused("reproduce", file)
    assert f"model '{model_copy}' does not exist" in line
    assert line.endswith("with --model\n")
    assert run("reproduce", file, "--model", moved).out.endswith(f"identical to {file}\n")
    assert read_record(Path("out/x-0-reproduced.png")).request.model.name == str(moved)


def changed(file: Path, **changes: Any) -> Path:
    """The picture with another record."""
    texts = read_texts(file)
    record = {**json.loads(texts[METADATA_KEY]), **changes}
    with Image.open(file) as image:
        image.load()
        save_picture(image, file, {METADATA_KEY: json.dumps(record)})
    return file


def test_other_versions_settings_and_machines_are_named(
    run: Callable[..., Any], model_folder: Path, tmp_path: Path
) -> None:
    [file] = paint(request(model_folder), tmp_path)
    changed(
        file,
        versions={"torch": "1.0\x1b[31m", "jax": "1"},
        machine={"device": "abacus", "dtype": "float32", "threads": 1000},
        model={**read_record(file).model.model_dump(), "settings": "0" * 64},
    )
    first, *others = run("reproduce", file).out.splitlines()
    assert first.endswith(f"identical to {file}")
    assert len(others) == 5
    assert others[0] == "- the model's settings: its JSON or text files are not those that the picture was painted with"
    assert others[1] == "- 'jax': None, painted with '1'"
    assert others[2].endswith(r"painted with '1.0\x1b[31m'")
    assert others[3:] == ["- device: cpu, painted with 'abacus'", "- threads: 1, painted with 1000"]


def test_pixels_that_were_changed_are_seen(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    [file] = paint(request(model_folder), tmp_path)
    texts = read_texts(file)
    with Image.open(file) as image:
        r, g, b = image.getpixel((3, 2))  # type: ignore[misc]
        image.putpixel((3, 2), (r, g, b + 7 if b < 100 else b - 7))
        save_picture(image, file, texts)
        save_picture(image.resize((24, 16)), tmp_path / "larger.png", texts)
    first, line = run("reproduce", file).out.splitlines()
    assert "1 of 96 pixels differ, by at most 7 of 255, from" in first
    assert "it was changed, or is from another machine" in line
    assert "12x8 pixels, unlike the 24x16 of" in run("reproduce", tmp_path / "larger.png").out


def test_pictures_from_before_weights_were_written(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    file = paint(request(model_folder, count=5, batch_size=3), tmp_path)[4]
    record = json.loads(read_texts(file)[METADATA_KEY])
    for key in ("batch", "model", "machine"):
        del record[key]
    with Image.open(file) as image:
        image.load()
        save_picture(image, file, {METADATA_KEY: json.dumps(record)})
    first, line = run("reproduce", file).out.splitlines()
    assert first.endswith(f"identical to {file}")
    assert line == "- the picture does not say by which weights it was painted"


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


def foreign(path: Path, key: str, text: str) -> Path:
    info = PngInfo()
    info.add_text(key, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


@pytest.mark.capability("foreign-pictures")
def test_a_web_ui_s_picture(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    text = "a (red:1.2) heart\nNegative prompt: blue\nSteps: 2, Sampler: Euler a, CFG scale: 2.5, Seed: 7, Size: 12x8"
    file = foreign(tmp_path / "theirs.png", PARAMETERS_KEY, text)
    first, *notes = run("reproduce", file, "--model", model_folder).out.splitlines()
    assert first == f"out/theirs-reproduced.png (seed 7): 12x8 pixels, unlike the 8x8 of {file}"
    assert [note[:12] for note in notes] == ["- weights of", "- RNG: 'GPU'"]
    record = read_record(Path("out/theirs-reproduced.png"))
    assert (record.request.prompt, record.request.guidance.weight) == ("a red heart", 2.5)
    assert (record.request.sampling.steps, record.request.sampling.sampler) == (2, "euler_ancestral")
    again(run, Path("out/theirs-reproduced.png"))


def test_our_own_parameters_paint_the_same(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    """What web UIs are told is all that a picture of one needs, here where the rest is the same."""
    [_, file] = paint(request(model_folder, count=2, batch_size=1, sampler="ddim"), tmp_path)
    with Image.open(file) as image:
        image.load()
        save_picture(image, tmp_path / "theirs.png", {PARAMETERS_KEY: read_texts(file)[PARAMETERS_KEY]})
    outcome = run("reproduce", tmp_path / "theirs.png", "--model", model_folder)
    assert outcome.out == f"out/theirs-reproduced.png (seed 6): identical to {tmp_path / 'theirs.png'}\n"


@pytest.mark.capability("foreign-pictures", "other-autoencoder")
def test_a_web_ui_s_picture_by_another_autoencoder(
    run: Callable[..., Any], refused: Callable[..., str], model_folder: Path, tmp_path: Path
) -> None:
    file = foreign(tmp_path / "theirs.png", PARAMETERS_KEY, "a heart\nSteps: 2, Seed: 7, RNG: CPU")
    arguments = ["reproduce", file, "--model", model_folder]
    assert "leave out --refiner" in refused(*arguments, "--refiner", model_folder)
    assert run(*arguments, "--vae", model_folder / "vae").code == 0
    assert read_record(Path("out/theirs-reproduced.png")).request.model.vae == str(model_folder / "vae")


@pytest.mark.capability("foreign-pictures")
def test_a_web_ui_s_picture_over_another(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    text = "a heart\nSteps: 2, Seed: 7, Denoising strength: 0.5, RNG: CPU"
    file = foreign(tmp_path / "theirs.png", PARAMETERS_KEY, text)
    start = photo(tmp_path / "start.png")
    arguments = ["reproduce", file, "--model", model_folder, "--overwrite"]
    assert "give the picture to start from with --image" in run(*arguments).out
    assert run(*arguments, "--image", start).out.count("\n") == 1
    record = read_record(Path("out/theirs-reproduced.png"))
    assert (record.request.start, record.steps_run) == (Start(image=load_photo(start).sha256, strength=0.5), 1)


@pytest.mark.capability("foreign-pictures")
@pytest.mark.parametrize(("sampler", "notes"), [("DPM adaptive", 1), ("Heun", 0)])
def test_a_model_whose_scheduler_is_not_here(
    run: Callable[..., Any], model_copy: Path, tmp_path: Path, sampler: str, notes: int
) -> None:
    index = json.loads((model_copy / "model_index.json").read_text())
    index["scheduler"][1] = "VQDiffusionScheduler"
    (model_copy / "model_index.json").write_text(json.dumps(index))
    text = f"a heart\nSteps: 2, Seed: 7, RNG: CPU, Sampler: {sampler}"
    outcome = run("reproduce", foreign(tmp_path / "theirs.png", PARAMETERS_KEY, text), "--model", model_copy)
    assert (outcome.code, outcome.out.count("\n")) == (0, 1 + notes)


@pytest.mark.capability("foreign-pictures")
def test_a_graph_of_comfyui(run: Callable[..., Any], model_folder: Path, tmp_path: Path) -> None:
    graph = {"3": {"class_type": "KSampler", "inputs": {"seed": 9, "steps": 2, "sampler_name": "ddim"}}}
    file = foreign(tmp_path / "theirs.png", "prompt", json.dumps(graph))
    assert run("reproduce", file, "--model", model_folder).out.startswith("out/theirs-reproduced.png (seed 9): ")


def test_a_text_with_many_settings_is_not_repeated_without_end(
    run: Callable[..., Any], model_folder: Path, tmp_path: Path
) -> None:
    text = "Steps: 2, RNG: CPU, " + ", ".join(f"key {i}: \x1b[31m" for i in range(1000))
    outcome = run("reproduce", foreign(tmp_path / "x.png", PARAMETERS_KEY, text), "--model", model_folder)
    assert outcome.code == 0
    assert outcome.out.count("\n") == 32
    assert outcome.out.endswith("- and 970 more\n")
    assert "\x1b" not in outcome.out


LIES = {
    "deep": "[" * 500_000,
    "large": '{"request": {"prompt": "' + "x" * 1_100_000 + '", "steps": 1}}',
    "wrong types": {"request": {"prompt": ["x"] * 1000}},
    "index": {"index": 10**30},
    "index below 0": {"index": -1},
    "batch too large": {"batch": {"first": 0, "size": 10**9}},
    "batch elsewhere": {"batch": {"first": 3, "size": 1}},
    "dtype": {"machine": {"dtype": "load"}},
    "threads": {"machine": {"threads": "many"}},
    "no hash": {"model": {"weights": {"unet": "../../etc/passwd"}}},
    "versions": {"versions": {"torch": "x" * 10**5}},
    "sampler": {"model": {"weights": {"unet": "0" * 64}, "sampler": "__import__"}},
    "model nowhere": {"request": {"model": {"name": "~nobody-of-that-name/model"}}},
    "model a device": {"request": {"model": {"name": "/dev/zero"}}},
    "model with NUL": {"request": {"model": {"name": "a\0b"}}},
    "canvas": {"request": {"canvas": {"width": 10**6, "height": 8}}},
    "canvas, odd": {"request": {"canvas": {"width": 9, "height": 8}}},
    "steps": {"request": {"sampling": {"steps": -3, "seed": 1}}},
    "guidance": {"request": {"guidance": {"weight": float("nan")}}},
    "seed": {"request": {"sampling": {"seed": 2**64}}},
    "start": {"request": {"start": {"image": "../start.png"}}},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_records_that_lie_are_refused_in_one_line(
    refused: Callable[..., str], model_folder: Path, tmp_path: Path, lie: Any
) -> None:
    record: Any = lie
    if isinstance(lie, dict):
        wanted = {"prompt": "x", "model": {"name": str(model_folder)}, **lie.get("request", {})}
        record = json.dumps({"index": 0, "steps_run": 1, **lie, "request": wanted})
    line = refused("reproduce", foreign(tmp_path / "x.png", METADATA_KEY, record))
    assert len(line) < 1000


@pytest.mark.parametrize(
    ("canvas", "sampling", "said"),
    [
        ((16, 18), {}, "16x18 pixels, more than 4 times the 8x8 of this model"),
        ((16384, 16384), {"steps": 1000}, "16384x16384 pixels, more than"),
        ((8, 8), {"count": 100_000, "batch_size": 100_000}, "in a batch of 100000, more than 64"),
    ],
)
def test_what_would_take_hours_is_painted_only_when_meant(
    refused: Callable[..., str],
    model_folder: Path,
    tmp_path: Path,
    canvas: tuple[int, int],
    sampling: dict[str, int],
    said: str,
) -> None:
    wanted = request(model_folder, **sampling).model_dump()
    wanted["canvas"] = {"width": canvas[0], "height": canvas[1]}
    record = json.dumps({"request": wanted, "index": 0, "steps_run": 1})
    line = refused("reproduce", foreign(tmp_path / "x.png", METADATA_KEY, record))
    assert said in line
    assert "x.png was painted " in line
    assert line.endswith("; if you mean that, add --large\n")


def test_large_pictures_of_our_own_are_painted_when_meant(
    run: Callable[..., Any], model_folder: Path, tmp_path: Path
) -> None:
    wanted = request(model_folder, steps=1).model_copy(update={"canvas": Canvas(width=16, height=18)})
    [file] = paint(wanted, tmp_path)
    assert run("reproduce", file).code == 2
    again(run, file, "--large")
    at_once = paint(request(model_folder, steps=1, count=65, batch_size=65), tmp_path)
    assert run("reproduce", at_once[64]).code == 2
    again(run, at_once[64], "--large")
    largest = paint(request(model_folder, steps=1, count=64, batch_size=64), tmp_path)
    again(run, largest[0])


def test_files_that_are_no_pictures(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    foreign(tmp_path / "long.png", PARAMETERS_KEY, "x" * 1_000_000)
    foreign(tmp_path / "whole.png", "comment", "not painted")
    foreign(tmp_path / "graph.png", "prompt", '{"1": {}}')
    foreign(tmp_path / "half.png", "prompt", '{"1": {"class_type": "KSampler", "inputs": {"positive": "\\ud83d"}}}')
    foreign(tmp_path / "empty.png", PARAMETERS_KEY, " ")
    packed = PngInfo()
    packed.add_text(PARAMETERS_KEY, "x" * 10**7, zip=True)  # 10 kB in the file
    Image.new("RGB", (8, 8)).save(tmp_path / "packed.png", pnginfo=packed)
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.jpg")
    for name, said in {
        "absent.png": "does not exist",
        "notes.png": "its format is none of those known here",
        "long.png": "long.png: the parameters text has 1000000 letters, at most 100000 are read",
        "half.png": "half.png: the prompt it carries is no JSON in UTF-8",
        "empty.png": "empty.png does not say how it was painted",
        "packed.png": "cannot be read",
        "whole.png": "does not say how it was painted; give a PNG with its metadata",
        "graph.png": "has no KSampler node",
        "photo.jpg": "does not say how it was painted",
    }.items():
        assert said in refused("reproduce", tmp_path / name)


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
