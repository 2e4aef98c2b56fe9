"""Inpainting against diffusers' pipelines, for models trained for it and for others, and what lies outside the mask.

Both sides in float64, the oracle's pictures as they are before pasting; tolerances as in test_pictures.py.
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
    EulerDiscreteScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
)
from PIL import Image
from test_pictures import PUBLISHED, compare
from tiny import save_tiny_pipeline, tiny_pipeline, tiny_unet
from tiny_xl import tiny_xl_pipeline

from latentbrush import Canvas, GuidanceRequest, ImageRequest, Sampling, Start, UserError, generate, load
from latentbrush.formats import save_model
from latentbrush.model import LatentDiffusion

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SEED, COUNT, STEPS = 4, 2, 5
IMAGE, MASK = "0" * 64, "1" * 64


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))


def mask() -> Image.Image:
    """Its edges are not those of latent cells; greys on both sides of the half."""
    grey = np.zeros((24, 32), np.uint8)
    grey[5:18, 9:27], grey[6:10, 9:27], grey[2:4] = 255, 128, 127
    return Image.fromarray(grey)


def asking(strength: float = 1.0, *, paste: bool = False, weight: float = 3.0, count: int = COUNT) -> ImageRequest:
    return ImageRequest(
        prompt="a red cat",
        canvas=Canvas(width=32, height=24),
        sampling=Sampling(steps=STEPS, seed=SEED, count=count),
        guidance=GuidanceRequest(weight=weight),
        start=Start(image=IMAGE, mask=MASK, strength=strength, paste=paste),
    )


def ours(model: LatentDiffusion, request: ImageRequest) -> tuple[list[torch.Tensor], np.ndarray]:
    seen: list[torch.Tensor] = []

    def on_step(x: torch.Tensor, *_: Any) -> torch.Tensor:
        seen.append(x.clone())
        return x

    images = generate(model, request, on_step, {IMAGE: photo(), MASK: mask()})
    return seen, np.stack([np.asarray(image.image) for image in images]).astype(int)


def theirs(pipeline: DiffusionPipeline, request: ImageRequest) -> tuple[list[torch.Tensor], np.ndarray]:
    seen: list[torch.Tensor] = []

    def record(_: Any, step: int, t: Any, values: dict[str, torch.Tensor]) -> dict[str, Any]:
        seen.append(values["latents"].clone())
        return {}

    pipeline.set_progress_bar_config(disable=True)
    # Here and there float64 would draw otherwise than float32; and each picture has its own draw of the guide,
    # which diffusers makes only where there are as many guides as pictures.
    pipeline.vae.register_to_config(force_upcast=False)
    images = pipeline(
        ["a red cat"] * COUNT,
        image=[photo()] * COUNT,
        mask_image=[mask()] * COUNT,
        width=32,
        height=24,
        strength=request.start.strength,
        num_inference_steps=STEPS,
        guidance_scale=request.guidance.weight,
        generator=[torch.Generator().manual_seed(SEED + i) for i in range(COUNT)],
        callback_on_step_end=record,
    ).images
    return seen, np.stack([np.asarray(image) for image in images]).astype(int)


def trained_for_it(directory: Path, scheduler: type) -> None:
    plain = tiny_pipeline("sd1", scheduler)
    parts = plain.components | {"unet": tiny_unet("sd1", in_channels=9)}
    StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False).save_pretrained(directory)


@pytest.mark.compatible("sd1-inpainting", "folder", "save")
@pytest.mark.capability("inpainting-model", "diffusers-folders")
@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerAncestralDiscreteScheduler])
def test_a_model_trained_for_it(scheduler: type, tmp_path: Path) -> None:
    trained_for_it(tmp_path / "theirs", scheduler)
    model = load(tmp_path / "theirs", dtype=torch.float64)
    assert model.task == "inpainting"
    save_model(model, tmp_path / "ours")
    for folder in ("theirs", "ours"):
        pipeline = DiffusionPipeline.from_pretrained(tmp_path / folder, torch_dtype=torch.float64)
        assert isinstance(pipeline, StableDiffusionInpaintPipeline)
        for request in (asking(), asking(0.6, weight=1.0)) if folder == "theirs" else (asking(0.6),):
            compare(ours(model, request), theirs(pipeline, request), PUBLISHED)
    with pytest.raises(UserError, match="trained for inpainting: it needs a picture and a mask"):
        generate(model, ImageRequest(prompt="a red cat"))


@pytest.mark.compatible("xl-inpainting", "folder", "save")
@pytest.mark.capability("inpainting-model", "stable-diffusion-xl")
def test_stable_diffusion_xl_trained_for_it(tmp_path: Path) -> None:
    tiny_xl_pipeline("inpainting").save_pretrained(tmp_path / "theirs")
    model = load(tmp_path / "theirs", dtype=torch.float64)
    save_model(model, tmp_path / "ours")
    for folder in ("theirs", "ours"):
        pipeline = DiffusionPipeline.from_pretrained(
            tmp_path / folder, torch_dtype=torch.float64, add_watermarker=False
        )
        assert isinstance(pipeline, StableDiffusionXLInpaintPipeline)
        compare(ours(model, asking(0.8)), theirs(pipeline, asking(0.8)), PUBLISHED)


@pytest.mark.capability("inpainting")
@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerDiscreteScheduler, EulerAncestralDiscreteScheduler])
def test_any_model_keeps_what_is_known(scheduler: type, tmp_path: Path) -> None:
    pipeline = save_tiny_pipeline(tmp_path, "sd1", scheduler).to(torch.float64)
    model = load(tmp_path, dtype=torch.float64)
    pipeline = StableDiffusionInpaintPipeline(**pipeline.components, requires_safety_checker=False)
    for strength in (1.0, 0.6):
        compare(ours(model, asking(strength)), theirs(pipeline, asking(strength)), PUBLISHED)


@pytest.mark.capability("inpainting")
def test_outside_the_mask_every_byte_is_the_pictures(tmp_path: Path) -> None:
    save_tiny_pipeline(tmp_path / "plain")
    trained_for_it(tmp_path / "trained", DDIMScheduler)
    white = np.asarray(mask()) >= 128
    for name in ("plain", "trained"):
        model = load(tmp_path / name)
        _, pasted = ours(model, asking(paste=True))
        _, painted = ours(model, asking(paste=False))
        for one, other in zip(pasted, painted, strict=True):
            assert np.array_equal(one[~white], np.asarray(photo())[~white])
            assert np.array_equal(one[white], other[white])
            assert (other[~white] != np.asarray(photo())[~white]).any()


@pytest.mark.capability("inpainting", "one-line-errors")
def test_masks_that_cannot_be(tmp_path: Path) -> None:
    save_tiny_pipeline(tmp_path)
    model = load(tmp_path)
    black, small = Image.new("L", (32, 24)), Image.new("L", (8, 8), 255)
    for images, said in (
        ({IMAGE: photo(), MASK: black}, "black throughout, so nothing would be painted"),
        ({IMAGE: photo(), MASK: small}, "the mask is 8x8 pixels, the picture 32x24"),
        ({IMAGE: photo()}, f"the mask {MASK} is not among the 1 pictures"),
    ):
        with pytest.raises(UserError, match=said):
            generate(model, asking(), images=images)
    with pytest.raises(ValueError, match="a mask is there, but no picture that it covers"):
        Start(mask=MASK)
