"""Networks that read a picture at every step, against diffusers: InstructPix2Pix and depth-to-image.

Both sides in float64; tolerances as in test_pictures.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    EulerAncestralDiscreteScheduler,
    StableDiffusionDepth2ImgPipeline,
    StableDiffusionInstructPix2PixPipeline,
)
from PIL import Image
from test_pictures import PUBLISHED, compare
from tiny import tiny_pipeline, tiny_unet

from latentbrush import Canvas, GuidanceRequest, ImageRequest, Sampling, Start, UserError, generate, load
from latentbrush.formats import save_model
from latentbrush.model import LatentDiffusion
from latentbrush.request import Control

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SEED, COUNT, STEPS = 4, 2, 5
IMAGE, START = "0" * 64, "1" * 64
PARTS = ("vae", "text_encoder", "tokenizer", "scheduler")


def photo(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8))


def depth() -> Image.Image:
    """Smooth, as depth is; the cells' interpolation overshoots at noise."""
    return Image.linear_gradient("L").resize((32, 24)).rotate(20)


def asking(weight: float = 4.0, image_weight: float = 1.5, strength: float | None = None) -> ImageRequest:
    return ImageRequest(
        prompt="a red cat",
        canvas=Canvas(width=32, height=24),
        sampling=Sampling(steps=STEPS, seed=SEED, count=COUNT),
        guidance=GuidanceRequest(weight=weight, negative="a blue dog"),
        control=Control(image=IMAGE, weight=image_weight),
        start=Start() if strength is None else Start(image=START, strength=strength),
    )


def ours(model: LatentDiffusion, request: ImageRequest, picture: Image.Image) -> tuple[list[torch.Tensor], np.ndarray]:
    seen: list[torch.Tensor] = []

    def on_step(x: torch.Tensor, *_: Any) -> torch.Tensor:
        seen.append(x.clone())
        return x

    images = generate(model, request, on_step, {IMAGE: picture, START: photo(1)})
    return seen, np.stack([np.asarray(image.image) for image in images]).astype(int)


def theirs(pipeline: DiffusionPipeline, request: ImageRequest, **more: Any) -> tuple[list[torch.Tensor], np.ndarray]:
    seen: list[torch.Tensor] = []

    def record(_: Any, step: int, t: Any, values: dict[str, torch.Tensor]) -> dict[str, Any]:
        seen.append(values["latents"].clone())
        return {}

    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        ["a red cat"] * COUNT,
        negative_prompt=["a blue dog"] * COUNT,
        num_inference_steps=STEPS,
        guidance_scale=request.guidance.weight,
        generator=[torch.Generator().manual_seed(SEED + i) for i in range(COUNT)],
        callback_on_step_end=record,
        **more,
    ).images
    return seen, np.stack([np.asarray(image) for image in images]).astype(int)


@pytest.mark.compatible("instruct-pix2pix", "folder", "save")
@pytest.mark.capability("instruct-pix2pix")
@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerAncestralDiscreteScheduler])
def test_instruct_pix2pix(scheduler: type, tmp_path: Path) -> None:
    parts = {name: tiny_pipeline("sd1", scheduler).components[name] for name in PARTS}
    unet = tiny_unet("sd1", in_channels=8)
    made = StableDiffusionInstructPix2PixPipeline(
        **parts, unet=unet, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    made.save_pretrained(tmp_path / "theirs")
    model = load(tmp_path / "theirs", dtype=torch.float64)
    assert model.task == "editing"
    save_model(model, tmp_path / "ours")
    for folder in ("theirs", "ours"):
        pipeline = DiffusionPipeline.from_pretrained(tmp_path / folder, torch_dtype=torch.float64)
        assert isinstance(pipeline, StableDiffusionInstructPix2PixPipeline)
        # An image guidance of 1 costs diffusers a branch that changes nothing, and us none.
        for request in (asking(), asking(3.0, 1.0)):
            options = {"image": photo(), "image_guidance_scale": request.control.weight}
            compare(ours(model, request, photo()), theirs(pipeline, request, **options), PUBLISHED)
    with pytest.raises(UserError, match="trained for editing: it needs a picture to edit"):
        generate(model, ImageRequest(prompt="a red cat"))


@pytest.mark.capability("instruct-pix2pix", "one-call-without-guidance")
def test_every_weight_of_one_saves_a_branch(tmp_path: Path) -> None:
    parts = {name: tiny_pipeline("sd1").components[name] for name in PARTS}
    unet = tiny_unet("sd1", in_channels=8)
    StableDiffusionInstructPix2PixPipeline(
        **parts, unet=unet, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    ).save_pretrained(tmp_path)
    model = load(tmp_path)
    sizes: list[int] = []
    model.unet.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    for weights, branches in (((1.0, 1.0), 1), ((4.0, 1.0), 2), ((1.5, 1.5), 2), ((1.0, 1.5), 3), ((4.0, 1.5), 3)):
        sizes.clear()
        ours(model, asking(*weights), photo())
        assert sizes == [branches * COUNT] * STEPS


@pytest.mark.compatible("sd2-depth", "folder", "save")
@pytest.mark.capability("depth-to-image")
def test_depth_to_image(tmp_path: Path) -> None:
    parts = {name: tiny_pipeline("sd2").components[name] for name in PARTS}
    unet = tiny_unet("sd2", in_channels=5)
    made = StableDiffusionDepth2ImgPipeline(**parts, unet=unet, depth_estimator=None, feature_extractor=None)
    made.save_pretrained(tmp_path / "theirs")
    model = load(tmp_path / "theirs", dtype=torch.float64)
    assert model.task == "depth-to-image"
    save_model(model, tmp_path / "ours")
    values = torch.from_numpy(np.asarray(depth()).astype(np.float64))[None]
    for folder in ("theirs", "ours"):
        pipeline = StableDiffusionDepth2ImgPipeline.from_pretrained(
            tmp_path / folder, torch_dtype=torch.float64, depth_estimator=None, feature_extractor=None
        )
        request = asking(strength=0.8)
        # The depth map's numbers are whole, and interpolated in float32 here: 1e-7 of its range.
        expected = theirs(pipeline, request, image=photo(1), depth_map=values, strength=0.8)
        compare(ours(model, request, depth()), expected, PUBLISHED)
    with pytest.raises(UserError, match="of one grey throughout"):
        ours(model, asking(), Image.new("L", (32, 24), 7))
    with pytest.raises(UserError, match="it needs a depth map"):
        generate(model, ImageRequest(prompt="a red cat"))


@pytest.mark.capability("instruct-pix2pix")
def test_other_models_read_no_control(tmp_path: Path) -> None:
    tiny_pipeline("sd1").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="task is text-to-image, and it reads no picture beside what it is told"):
        ours(load(tmp_path), asking(), photo())
