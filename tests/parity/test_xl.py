"""Stable Diffusion XL against diffusers: base, turbo's settings and refiner, whole pictures and every step.

Both sides in float64; what differs is the schedulers' float32, as in test_pictures.py.
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
    StableDiffusionXLImg2ImgPipeline,
)
from PIL import Image
from test_pictures import PUBLISHED, compare, ours
from tiny_xl import tiny_xl_pipeline

from latentbrush import Canvas, GuidanceRequest, ImageRequest, Sampling, Start, UserError, generate, load
from latentbrush.formats import save_model
from latentbrush.request import Micro

pytestmark = [
    pytest.mark.capability("stable-diffusion-xl"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

SEED, COUNT, NAME = 4, 2, "0" * 64
CASES: dict[str, tuple[type, dict[str, Any], dict[str, Any]]] = {
    "base": (EulerDiscreteScheduler, {"steps_offset": 1}, {}),
    "zeros-off": (EulerDiscreteScheduler, {}, {"force_zeros_for_empty_prompt": False}),
    "offset-0": (DDIMScheduler, {"steps_offset": 0}, {}),
    "turbo": (EulerAncestralDiscreteScheduler, {"timestep_spacing": "trailing"}, {}),
}
PLAIN, PROMPT = Micro(), "a red cat on 고양이"


def asking(
    weight: float = 5.0, negative: str = "", micro: Micro = PLAIN, strength: float | None = None, **more: Any
) -> ImageRequest:
    return ImageRequest(
        prompt=PROMPT,
        canvas=Canvas(width=32, height=40),
        sampling=Sampling(steps=more.pop("steps", 4), seed=SEED, count=COUNT),
        guidance=GuidanceRequest(weight=weight, negative=negative),
        micro=micro,
        start=Start() if strength is None else Start(image=NAME, strength=strength),
    )


def theirs(pipeline: DiffusionPipeline, request: ImageRequest, **more: Any) -> Any:
    seen: list[torch.Tensor] = []

    def record(_: Any, step: int, t: Any, values: dict[str, torch.Tensor]) -> dict[str, Any]:
        seen.append(values["latents"].clone())
        return {}

    negative = request.guidance.negative
    size = {} if "image" in more else {"width": request.canvas.width, "height": request.canvas.height}
    images = pipeline(
        [PROMPT] * COUNT,
        # None, not '', is what its zeros are for.
        negative_prompt=[negative] * COUNT if negative else None,
        num_inference_steps=request.sampling.steps,
        guidance_scale=request.guidance.weight,
        generator=[torch.Generator().manual_seed(SEED + i) for i in range(COUNT)],
        callback_on_step_end=record,
        **size,
        **more,
    ).images
    return seen, np.stack([np.asarray(image) for image in images]).astype(int)


def opened(folder: Path, pipeline: type = DiffusionPipeline) -> DiffusionPipeline:
    result = pipeline.from_pretrained(folder, torch_dtype=torch.float64, add_watermarker=False)
    result.set_progress_bar_config(disable=True)
    # Else it encodes, and draws, in float32, whatever the type; that our files do not state it changes no more.
    result.vae.register_to_config(force_upcast=False)
    return result


@pytest.mark.compatible("xl", "folder", "save")
@pytest.mark.parametrize("case", CASES)
def test_pictures(case: str, tmp_path: Path) -> None:
    scheduler, changes, settings = CASES[case]
    tiny_xl_pipeline("base", scheduler, settings=settings, **changes).save_pretrained(tmp_path / "theirs")
    model, pipeline = load(tmp_path / "theirs", dtype=torch.float64), opened(tmp_path / "theirs")
    assert (model.task, model.micro_count, model.autoencoder.config.scaling_factor) == ("text-to-image", 6, 0.13025)
    for request in (asking(), asking(negative="a blue dog"), asking(1.0, steps=1)):
        compare(ours(model, request), theirs(pipeline, request), PUBLISHED)
    save_model(model, tmp_path / "ours")
    request = asking()
    compare(ours(model, request), theirs(opened(tmp_path / "ours"), request), PUBLISHED)


def test_sizes_and_crops_are_told(tmp_path: Path) -> None:
    tiny_xl_pipeline().save_pretrained(tmp_path)
    model, pipeline = load(tmp_path, dtype=torch.float64), opened(tmp_path)
    request = asking(micro=Micro(original=(20, 24), crop=(3, 5), target=(48, 64)))
    told = {"original_size": (24, 20), "crops_coords_top_left": (5, 3), "target_size": (64, 48)}
    # Without sizes for the negative prompt, diffusers tells it the same.
    found, expected = ours(model, request), theirs(pipeline, request, **told)
    compare(found, expected, PUBLISHED)
    assert float((found[0][-1] - ours(model, asking())[0][-1]).abs().max()) > 1e-2


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 32, 3), dtype=np.uint8))


@pytest.mark.compatible("xl-refiner", "folder", "save")
@pytest.mark.capability("image-to-image")
@pytest.mark.parametrize("kind", ["base", "refiner"])
def test_image_to_image(kind: str, tmp_path: Path) -> None:
    """What the refiner is for: it has one tower, and is told aesthetic scores, another for the negative prompt."""
    tiny_xl_pipeline(kind).save_pretrained(tmp_path / "theirs")
    model, pipeline = (
        load(tmp_path / "theirs", dtype=torch.float64),
        opened(tmp_path / "theirs", StableDiffusionXLImg2ImgPipeline),
    )
    refiner = kind == "refiner"
    assert model.micro_count == (5 if refiner else 6)
    request = asking(strength=0.5, micro=Micro(aesthetic=7.5, negative_aesthetic=2.0) if refiner else PLAIN, steps=6)
    told = {"aesthetic_score": 7.5, "negative_aesthetic_score": 2.0} if refiner else {}
    expected = theirs(pipeline, request, image=photo(), strength=0.5, **told)
    steps: list[torch.Tensor] = []

    def on_step(x: torch.Tensor, *_: Any) -> torch.Tensor:
        steps.append(x.clone())
        return x

    images = generate(model, request, on_step, {NAME: photo()})
    pictures = np.stack([np.asarray(image.image) for image in images]).astype(int)
    compare((steps, pictures), expected, PUBLISHED)
    save_model(model, tmp_path / "ours")
    again = opened(tmp_path / "ours", StableDiffusionXLImg2ImgPipeline)
    compare((steps, pictures), theirs(again, request, image=photo(), strength=0.5, **told), PUBLISHED)


def test_every_weight_goes_both_ways(tmp_path: Path) -> None:
    for kind in ("base", "refiner"):
        pipeline = tiny_xl_pipeline(kind)
        pipeline.save_pretrained(tmp_path / kind)
        save_model(load(tmp_path / kind), tmp_path / f"{kind}-ours")
        again = DiffusionPipeline.from_pretrained(tmp_path / f"{kind}-ours", add_watermarker=False)
        assert type(again) is type(pipeline)
        for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
            first, second = getattr(pipeline, part), getattr(again, part)
            assert (first is None) == (second is None) == (kind == "refiner" and part == "text_encoder")
            if first is not None:
                a, b = first.state_dict(), second.state_dict()
                assert a.keys() == b.keys()
                assert all(torch.equal(a[key], b[key]) for key in a)
        for key in ("force_zeros_for_empty_prompt", "requires_aesthetics_score"):
            assert again.config.get(key) == pipeline.config.get(key)


def test_parts_that_do_not_fit(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        (
            {"numbers": 7},
            {},
            "the UNet adds 68 to its time, but a pooled text of 12 and 5 or 6 numbers of 8 make 52 or 60",
        ),
        ({"context": 24}, {}, "a context of width 24, the text tower writes 44"),
        ({"numbers": 5}, {}, "requires_aesthetics_score is False, but the UNet takes 5 numbers"),
    ]
    for i, (unet, settings, said) in enumerate(cases):
        tiny_xl_pipeline(unet=unet, settings=settings).save_pretrained(tmp_path / str(i))
        with pytest.raises(UserError, match=said):
            load(tmp_path / str(i))
