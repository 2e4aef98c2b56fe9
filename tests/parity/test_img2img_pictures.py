"""Image-to-image against StableDiffusionImg2ImgPipeline, and what strength promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image
from tiny import Kind, save_tiny_pipeline

from latentbrush import Canvas, GuidanceRequest, ImageRequest, Sampling, Start, UserError, generate
from latentbrush.formats import load_model
from latentbrush.model import LatentDiffusion
from latentbrush.pipeline import plan_of, resolve

pytestmark = pytest.mark.capability("image-to-image")

NAME = "0" * 64
SEED = 5
STEPS = 10
CASES: list[tuple[Kind, str, dict[str, Any]]] = [
    ("sd1", "DDIMScheduler", {}),
    ("sd2", "DDIMScheduler", {}),
    ("sd1", "EulerDiscreteScheduler", {}),
    ("sd1", "EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ("sd1", "EulerAncestralDiscreteScheduler", {}),
    ("sd1", "DPMSolverMultistepScheduler", {}),
    ("sd2", "HeunDiscreteScheduler", {}),
    ("sd1", "DDPMScheduler", {}),
]


def photo(width: int = 32, height: int = 32) -> Image.Image:
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def asking(strength: float | None, count: int = 2, sampler: str | None = None, **canvas: int) -> ImageRequest:
    return ImageRequest(
        prompt="a red cat",
        canvas=Canvas(**canvas),
        sampling=Sampling(steps=STEPS, seed=SEED, count=count, sampler=sampler),
        guidance=GuidanceRequest(weight=3.0),
        start=Start() if strength is None else Start(image=NAME, strength=strength),
    )


def paint(model: LatentDiffusion, request: ImageRequest, picture: Image.Image | None = None) -> tuple[Any, Any]:
    """The pictures, and x after every network call."""
    path: list[torch.Tensor] = []

    def record(x: torch.Tensor, level: Any, denoised: Any) -> torch.Tensor:
        path.append(x)
        return x

    images = generate(model, request, record, {} if picture is None else {NAME: picture})
    return images, path


@pytest.mark.parametrize(("kind", "scheduler", "changes"), CASES)
def test_as_diffusers(kind: Kind, scheduler: str, changes: dict[str, Any], tmp_path: Path) -> None:
    theirs = save_tiny_pipeline(tmp_path, kind, getattr(diffusers, scheduler), **changes)
    pipeline = StableDiffusionImg2ImgPipeline(**theirs.components, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    model = load_model(tmp_path)
    for strength in (0.3, 0.5, 0.8):
        ours, path = paint(model, asking(strength), photo())
        assert [one.steps for one in ours] == [int(STEPS * strength)] * 2
        arguments: dict[str, Any] = {
            "prompt": ["a red cat"] * 2,
            "image": photo(),
            "strength": strength,
            "num_inference_steps": STEPS,
            "guidance_scale": 3.0,
        }
        seen: list[torch.Tensor] = []

        def record(_: Any, i: int, t: Any, tensors: dict[str, torch.Tensor], seen: Any = seen) -> dict[str, Any]:
            seen.append(tensors["latents"])
            return {}

        generators = [torch.Generator().manual_seed(SEED + i) for i in range(2)]
        pictures = pipeline(generator=generators, callback_on_step_end=record, **arguments).images
        assert len(path) == len(seen)
        for x, latents in zip(path, seen, strict=True):
            assert float((x - latents).abs().max() / latents.abs().max()) <= 2e-5
        for one, other in zip(ours, pictures, strict=True):
            difference = np.asarray(one.image).astype(int) - np.asarray(other).astype(int)
            assert np.abs(difference).max() <= 1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    folder = tmp_path_factory.mktemp("model")
    save_tiny_pipeline(folder)
    return load_model(folder)


@pytest.mark.capability("strength-ends")
@pytest.mark.parametrize("sampler", ["ddim", "heun", "ddpm"])
def test_strength_one_is_text_to_image_bit_for_bit(model: LatentDiffusion, sampler: str) -> None:
    plain, path = paint(model, asking(None, sampler=sampler))
    guided, other = paint(model, asking(1.0, sampler=sampler), photo())
    assert all(torch.equal(x, y) for x, y in zip(path, other, strict=True))
    assert [one.image.tobytes() for one in plain] == [one.image.tobytes() for one in guided]
    assert plain[0].steps == STEPS


@pytest.mark.capability("strength-ends")
@pytest.mark.parametrize("strength", [0.0, 0.05])
def test_strength_zero_returns_the_guide_and_asks_nobody(model: LatentDiffusion, strength: float) -> None:
    images, path = paint(model, asking(strength), photo())
    assert not path
    assert [one.image.tobytes() for one in images] == [photo().tobytes()] * 2
    assert images[0].steps == 0


@pytest.mark.capability("batch-invariance")
def test_a_guides_pictures_do_not_depend_on_their_company(model: LatentDiffusion) -> None:
    together, _ = paint(model, asking(0.5), photo())
    alone, _ = paint(model, asking(0.5, count=1), photo())
    difference = np.asarray(together[0].image).astype(int) - np.asarray(alone[0].image).astype(int)
    assert np.abs(difference).max() <= 1


def test_the_guide_covers_the_canvas_whatever_its_size_and_mode(model: LatentDiffusion) -> None:
    guide = photo(100, 30).convert("RGBA")
    images, path = paint(model, asking(0.3, width=16, height=24), guide)
    assert images[0].image.size == (16, 24)
    assert path[0].shape == (2, 4, 6, 4)


def test_a_guide_that_was_not_passed(model: LatentDiffusion) -> None:
    with pytest.raises(UserError, match=f"start image {NAME} is not among the 0 pictures.*pass it in `images`"):
        generate(model, asking(0.5))
    request = resolve(model, asking(0.5))
    assert len(plan_of(model, request).steps) == STEPS // 2
    assert request.start == Start(image=NAME, strength=0.5)
