"""`--fast-decoder`: pictures decoded by a tiny autoencoder, which say so and can be painted again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from latentbrush.formats import load_tiny_autoencoder, read_record, save_tiny_autoencoder
from latentbrush.nn import TinyAutoencoder, TinyConfig

pytestmark = pytest.mark.capability("tiny-autoencoder")

Run = Callable[..., Any]


@pytest.fixture
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_tiny(tmp_path_factory.mktemp("models") / "taesd")


def saved_tiny(folder: Path, *, seed: int = 1, **changes: Any) -> Path:
    torch.manual_seed(seed)
    config = TinyConfig(4, 4, (0, 1), (1, 0), **changes)
    save_tiny_autoencoder(TinyAutoencoder(config), folder, overwrite=True)
    return folder


def pixels(path: str) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def painting(model: Path, out: str, *more: str | Path) -> list[str | Path]:
    return ["txt2img", "a red heart", "--model", model, "--seed", "5", "--device", "cpu", "--out", out, *more]


def test_a_picture_says_who_decoded_it_and_is_painted_again(run: Run, model_folder: Path, tiny: Path) -> None:
    assert run(*painting(model_folder, "plain.png")).code == 0
    for out, more in {"fast.png": [], "low.png": ["--low-memory"]}.items():
        outcome = run(*painting(model_folder, out, "--fast-decoder", tiny, *more))
        assert (outcome.code, outcome.err) == (0, "")
    assert pixels("fast.png") == pixels("low.png") != pixels("plain.png")
    record = read_record(Path("fast.png"))
    assert record.request.model.fast_decoder == str(tiny)
    again = run("reproduce", "fast.png")
    assert (again.code, again.out) == (0, "out/fast-reproduced.png (seed 5): identical to fast.png\n")


def test_other_weights_are_told(run: Run, model_folder: Path, tiny: Path) -> None:
    run(*painting(model_folder, "fast.png", "--fast-decoder", tiny))
    saved_tiny(tiny, seed=2)
    out = run("reproduce", "fast.png").out
    assert "pixels differ" in out
    assert "the weights 'fast_decoder/diffusion_pytorch_model.safetensors': SHA-256" in out
    assert "config.json" not in out


def test_the_strip_is_decoded_by_it_too(run: Run, model_folder: Path, tiny: Path) -> None:
    run(*painting(model_folder, "a.png", "--strip"))
    run(*painting(model_folder, "b.png", "--strip", "--fast-decoder", tiny))
    assert pixels("a-strip.png") != pixels("b-strip.png")


@pytest.mark.capability("reproduce", "one-line-errors")
def test_a_fast_decoder_that_has_moved(run: Run, refused: Run, model_folder: Path, tiny: Path) -> None:
    run(*painting(model_folder, "fast.png", "--fast-decoder", tiny))
    run(*painting(model_folder, "plain.png"))
    moved = tiny.rename(tiny.with_name("moved"))
    said = refused("reproduce", "fast.png")
    assert "does not exist; say where it lies now by --fast-decoder" in said
    again = run("reproduce", "fast.png", "--fast-decoder", moved, "--model", model_folder)
    assert (again.code, again.out) == (0, "out/fast-reproduced.png (seed 5): identical to fast.png\n")
    assert read_record(Path("out/fast-reproduced.png")).request.model.fast_decoder == str(moved)
    said = refused("reproduce", "plain.png", "--fast-decoder", moved)
    assert "painted by no fast decoder; leave out --fast-decoder" in said


@pytest.mark.parametrize("kind", ["nowhere", "other", "model"])
def test_what_is_no_fast_decoder_of_the_model(kind: str, refused: Run, model_folder: Path, tiny: Path) -> None:
    if kind == "nowhere":
        folder, said = tiny / "nowhere", "nowhere' is no folder; give one with config.json and weights"
    elif kind == "other":
        folder, said = saved_tiny(tiny, latent_channels=3), "the fast decoder has 3 latent channels, the model's"
        assert load_tiny_autoencoder(folder).config.latent_channels == 3
    else:
        folder, said = model_folder / "vae", "_class_name 'AutoencoderKL' is not supported; only 'AutoencoderTiny' is"
    assert said in refused(*painting(model_folder, "x.png", "--fast-decoder", folder))
