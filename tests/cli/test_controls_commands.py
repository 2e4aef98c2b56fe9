"""`latentbrush edit` and `depth2img` with tiny models: what they write, refuse, and paint again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latentbrush.formats import load_model, save_model
from latentbrush.model import LatentDiffusion
from latentbrush.nn import UNet


@pytest.fixture(scope="module")
def folders(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model for each command, its UNet with as many further channels."""
    made = {}
    for command, further in (("edit", 4), ("depth2img", 1)):
        plain = load_model(model_folder)
        torch.manual_seed(0)
        unet = UNet(replace(plain.unet.config, in_channels=4 + further)).eval()
        for parameter in unet.parameters():  # it starts as the zero function
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.2)
        model = LatentDiffusion(
            plain.autoencoder, unet, plain.text, plan_options=plain.plan_options, defaults=plain.defaults
        )
        made[command] = tmp_path_factory.mktemp("controls") / command
        save_model(model, made[command])
    return made


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return path


@pytest.mark.capability("instruct-pix2pix", "depth-to-image", "reproduce")
@pytest.mark.parametrize(("command", "option"), [("edit", "--image"), ("depth2img", "--depth")])
def test_the_picture_is_read_and_painted_again(
    run: Callable[..., Any],
    refused: Callable[..., str],
    folders: dict[str, Path],
    picture: Path,
    command: str,
    option: str,
) -> None:
    where = ["--model", folders[command], "--seed", "5"]
    outcome = run(command, "a red heart", *where, option, picture, "--out", "x.png")
    assert (outcome.code, outcome.out) == (0, "x.png (seed 5)\n"), outcome.err
    Image.linear_gradient("L").resize((8, 8)).save("other.png")
    assert run(command, "a red heart", *where, option, "other.png", "--out", "y.png").code == 0
    assert Path("x.png").read_bytes() != Path("y.png").read_bytes()
    assert "was painted with a control" in refused("reproduce", "x.png")
    outcome = run("reproduce", "x.png", "--control", picture, "--out", "again.png")
    assert "identical to x.png" in outcome.out, outcome.err
    assert option in refused(command, "a red heart", *where)
    assert "take latentbrush txt2img, or name another model" in refused(command, "a red heart", option, picture)


@pytest.mark.capability("instruct-pix2pix", "depth-to-image", "one-line-errors")
def test_one_does_not_do_the_others_work(refused: Callable[..., str], folders: dict[str, Path], picture: Path) -> None:
    options = {"edit": "--image", "depth2img": "--depth"}
    for command, other in (("edit", "depth2img"), ("depth2img", "edit")):
        said = refused(command, "a red heart", "--model", folders[other], options[command], picture, "--out", "x.png")
        assert f"take latentbrush {other}, or name another model" in said
    for command in options:
        said = refused("upscale", picture, "a red heart", "--model", folders[command], "--out", "x.png")
        assert f"that of this command upscaling; take latentbrush {command}" in said
        said = refused("txt2img", "a red heart", "--model", folders[command], "--out", "x.png")
        assert f"(latentbrush {command})" in said
    assert not Path("x.png").exists()
    said = refused(
        *("edit", "a", "--model", folders["edit"], "--image", picture, "--image-guidance", "1e300", "--out", "x.png")
    )
    assert "1e+300 by the picture" in said


@pytest.mark.capability("depth-to-image")
def test_a_picture_to_start_from_too(run: Callable[..., Any], folders: dict[str, Path], picture: Path) -> None:
    Image.linear_gradient("L").resize((8, 8)).save("depth.png")
    told = ["depth2img", "a red heart", "--model", folders["depth2img"], "--depth", "depth.png", "--seed", "5"]
    for name, more in (("noise", []), ("start", ["--image", picture, "--strength", "0.7"])):
        assert run(*told, *more, "--out", f"{name}.png").code == 0
    assert Path("noise.png").read_bytes() != Path("start.png").read_bytes()


@pytest.mark.capability("instruct-pix2pix")
def test_image_guidance_counts(run: Callable[..., Any], folders: dict[str, Path], picture: Path) -> None:
    told = ["edit", "a red heart", "--model", folders["edit"], "--image", picture, "--seed", "5"]
    for weight in ("1", "3"):
        assert run(*told, "--image-guidance", weight, "--out", f"{weight}.png").code == 0
    assert Path("1.png").read_bytes() != Path("3.png").read_bytes()


@pytest.mark.capability("model-info")
def test_info_tells_the_task(run: Callable[..., Any], folders: dict[str, Path]) -> None:
    assert "Stable Diffusion, editing" in run("info", folders["edit"]).out
    assert "Stable Diffusion, depth-to-image" in run("info", folders["depth2img"]).out
