"""The predicted memory of painting: counted right, and near to what a process really takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from latentbrush import UserError
from latentbrush.formats import load_model, outline_model
from latentbrush.latents import Tiling
from latentbrush.model import LatentDiffusion
from latentbrush.nn import Condition, PixelConfig, Pixels, VQAutoencoder, VQConfig
from latentbrush.viewing import painting_memory
from latentbrush.viewing.live_bytes import LiveBytes, counted

pytestmark = pytest.mark.capability("predicted-memory")

MakeModel = Callable[..., LatentDiffusion]
SIDE = 384
MEASURE = """
import sys, torch
from latentbrush import Canvas, ImageRequest, Sampling
from latentbrush.formats import load_model
from latentbrush.pipeline import generate

def held(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))

def paint(side):
    generate(model, ImageRequest(
        prompt="a red heart", canvas=Canvas(width=side, height=side, tiles="off"), sampling=Sampling(steps=1, seed=0)
    ))

model = load_model("emoji", device="cpu", dtype="float32")
paint(32)  # what is made at the first call, and once
before = held("VmRSS")
paint(int(sys.argv[1]))
print(held("VmHWM") - before)
"""


def test_what_is_alive_is_counted() -> None:
    with LiveBytes() as live:
        a = torch.zeros(100)
        assert (live.now, live.peak) == (400, 400)
        view = a[10:].view(9, 10).t()
        b = view + 1
        assert live.now == 400 + 360
        del a
        assert live.now == 400 + 360  # the view holds it
        del view, b
        assert (live.now, live.peak) == (0, 760)


def test_what_was_there_before_is_not_counted() -> None:
    weight = torch.zeros(3, 3, requires_grad=False)
    with LiveBytes() as live:
        view = weight.t()
        weight.mul_(2)
        assert live.now == live.peak == 0
        del view


@pytest.mark.parametrize("part", ["decoder", "encoder"])
def test_without_numbers_as_with_them(part: str) -> None:
    """Only the kernels of attention differ, and this autoencoder has none."""
    model, side = load_model("emoji", device="cpu", dtype="float32"), 64
    predicted = painting_memory(outline_model("emoji"), side, side).activations[part]
    with torch.no_grad(), LiveBytes() as live:
        if part == "decoder":
            model.autoencoder.decode(z := torch.zeros(1, *model.latent_shape(side, side)))
            del z
        else:
            model.autoencoder.encode(x := torch.zeros(1, 3, side, side))
            del x
    assert predicted == live.peak


def test_the_unet_without_numbers_as_with_them() -> None:
    """Attention's kernel, which is only then another one, is not where most is alive."""
    model, side = load_model("emoji", device="cpu", dtype="float32"), 128
    predicted = painting_memory(outline_model("emoji"), side, side, 3).activations["unet"]
    channels, height, width = model.latent_shape(side, side)
    with torch.no_grad(), LiveBytes() as live:
        context = torch.zeros(6, model.text.tokenizer.max_length, model.text.width)
        model.unet(torch.zeros(6, channels, height, width), torch.zeros(6), Condition(context))
    assert predicted == live.peak


def test_weights_are_those_of_the_parts_and_halves_take_half() -> None:
    whole = painting_memory(outline_model("emoji"), 64, 64)
    model = load_model("emoji", device="cpu", dtype="float32")
    assert whole.weights["unet"] == sum(4 * p.numel() for p in model.unet.parameters())
    half = painting_memory(outline_model("emoji").to(dtype=torch.float16), 64, 64)
    assert {2 * size for size in half.weights.values()} == set(whole.weights.values())
    assert 2 * half.activations["decoder"] == whole.activations["decoder"]
    assert whole.peak == sum(whole.weights.values()) + max(whole.activations.values())
    assert max(whole.weights.values()) < whole.peak_low_memory < whole.peak


def test_what_makes_it_more_and_less(make_model: MakeModel) -> None:
    def cost(width: int, height: int, batch: int = 1, **options: Any) -> dict[str, int]:
        model = make_model().to("meta")
        return dict(painting_memory(model, width, height, batch, **options).activations)

    one, two, large = cost(32, 32), cost(32, 32, 2), cost(64, 64)
    assert one["decoder"] < two["decoder"] < large["decoder"]
    assert one["unet"] < two["unet"] < large["unet"]
    assert one["encoder"] == two["encoder"] < large["encoder"]  # one picture is given
    assert cost(64, 64, tiles="on")["decoder"] < large["decoder"]
    with pytest.raises(UserError, match="multiples of 4 pixels"):
        cost(30, 32)


@pytest.mark.parametrize("kind", ["kl", "vq", "pixels"])
@pytest.mark.parametrize(
    ("width", "height", "batch"), [(32, 32, 3), (40, 32, 1), (96, 40, 1), (64, 72, 2), (68, 180, 2), (100, 128, 1)]
)
def test_tiles_are_counted_as_if_each_ran(
    make_model: MakeModel, kind: str, width: int, height: int, batch: int
) -> None:
    model = make_model().to("meta")
    if kind == "vq":
        model.autoencoder = VQAutoencoder(
            VQConfig(channels=(8, 8, 8), layers_per_block=1, groups=4, sample_size=32, latent_channels=4)
        ).to("meta")
    if kind == "pixels":
        model.autoencoder = Pixels(PixelConfig(sample_size=32))
    predicted = painting_memory(model, width, height, batch, tiles="on").activations
    shape = model.latent_shape(width, height)
    with counted() as live:
        Tiling("on").decode(model.autoencoder, z := torch.empty(batch, *shape, device="meta"))
        del z
    assert predicted["decoder"] == live.peak
    with counted() as live:
        Tiling("on").encode(model.autoencoder, x := torch.empty(1, 3, height, width, device="meta"))
        del x
    assert predicted["encoder"] == live.peak


def test_very_many_tiles_take_no_longer_than_a_row_of_them(make_model: MakeModel) -> None:
    """Of the 7,000 tiles of each picture only those run that have shapes of their own."""
    model, runs = make_model().to("meta"), list[int]()
    model.autoencoder.decoder.register_forward_hook(lambda *_: runs.append(1))
    model.autoencoder.encoder.register_forward_hook(lambda *_: runs.append(1))
    found = painting_memory(model, 2048, 2048, 100_000).activations
    assert found["decoder"] > 100_000 * 2048 * 2048 * 3 * 4 * 2  # one by one, and joined
    assert len(runs) <= 2 * 9


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's memory so")
def test_it_is_near_to_what_a_process_takes() -> None:
    """Up to a fifth more, and down to 0.6 of it: oneDNN chooses by processor which convolutions it computes in a layout
    of its own, and they are all counted so; without that the prediction would be too low by a third. The allocator
    gives back at once what is freed, for what it keeps is no part of it."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(SIDE)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    predicted = painting_memory(outline_model("emoji"), SIDE, SIDE).activations["decoder"]
    assert 0.6 < int(done.stdout) / predicted < 1.2


def test_info_tells_it(run_info: Callable[..., str]) -> None:
    said = json.loads(run_info("--memory", "--size", "64x32", "--batch-size", "2", "--json"))["painting"]
    expected = painting_memory(outline_model("emoji"), 64, 32, 2)
    assert said["float32"]["activations"] == dict(expected.activations)
    assert said["float32"]["peak"] == expected.peak
    assert (said["float32"]["width"], said["float32"]["height"], said["float32"]["batch_size"]) == (64, 32, 2)
    shown = run_info("--memory")
    assert "memory of painting 1 of 32x32 at once in float16" in shown
    assert f"{painting_memory(outline_model('emoji'), 32, 32).peak / 1e6:,.1f} MB" in shown
    assert "add --memory" in run_info("--size", "64x32", code=2)


@pytest.fixture
def run_info(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`latentbrush info emoji ARGUMENTS`, and what it says."""
    from latentbrush.cli import main

    def command(*arguments: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as caught:
            main(["info", "emoji", *arguments])
        output = capsys.readouterr()
        assert caught.value.code == code, output.err
        return output.err if code else output.out

    return command
