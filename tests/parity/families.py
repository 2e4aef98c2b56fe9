"""The families of Stable Diffusion, tiny and with random weights: how diffusers makes, calls and saves each.

What tests/parity/test_every_sampler.py paints with every scheduler of diffusers, and docs/compatibility.py lists.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from diffusers import (
    DiffusionPipeline,
    StableDiffusionDepth2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionXLImg2ImgPipeline,
)
from PIL import Image
from tiny import tiny_pipeline, tiny_unet
from tiny_upscaler import tiny_upscaler
from tiny_xl import tiny_xl_pipeline

from latentbrush import Canvas, GuidanceRequest, ImageRequest, Sampling, Start
from latentbrush.request import Control

SEED, COUNT, WIDTH, HEIGHT = 4, 3, 32, 24
PICTURE, OTHER = "0" * 64, "1" * 64
PROMPT, NEGATIVE = "a red cat on 고양이", "a blue dog"
STRENGTH = 0.75
UNMARKED = {"add_watermarker": False}
PARTS = ("vae", "text_encoder", "tokenizer", "scheduler")


def photo(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def depth() -> Image.Image:
    return Image.linear_gradient("L").resize((WIDTH, HEIGHT)).rotate(20)


def small() -> Image.Image:
    return Image.fromarray(np.random.default_rng(2).integers(0, 256, (8, 12, 3), dtype=np.uint8))


def mask() -> Image.Image:
    grey = np.zeros((HEIGHT, WIDTH), np.uint8)
    grey[5:18, 9:27] = 255
    return Image.fromarray(grey)


def _controlled(made: type, kind: Any, channels: int) -> Callable[[], DiffusionPipeline]:
    def make() -> DiffusionPipeline:
        plain = tiny_pipeline(kind)
        parts = {name: plain.components[name] for name in PARTS}
        nothing: dict[str, Any] = {"feature_extractor": None}
        if made is StableDiffusionDepth2ImgPipeline:
            nothing["depth_estimator"] = None
        else:
            nothing |= {"safety_checker": None, "requires_safety_checker": False}
        return made(**parts, unet=tiny_unet(kind, in_channels=channels), **nothing)

    return make


@dataclass(frozen=True)
class Family:
    """`row`: in docs/compatibility.yaml; `make`: a pipeline of diffusers, `opens`: what its folder is opened with
    again, with `options`. `pictures`: what the request refers to; `request`: blocks of it; `call`: what diffusers is
    given beside the prompt. `weights`: of guidance, those tried. `sized`: is it told how large a picture?"""

    row: str
    make: Callable[[], DiffusionPipeline]
    opens: type = DiffusionPipeline
    pictures: Mapping[str, Image.Image] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: tuple[float, ...] = (1.0, 6.0)
    sized: bool = True

    @property
    def begins_late(self) -> bool:
        """Does it begin from a guide, not from noise?"""
        start = self.request.get("start")
        return start is not None and start.strength < 1

    def asking(self, steps: int, weight: float) -> ImageRequest:
        return ImageRequest(
            prompt=PROMPT,
            canvas=Canvas(width=WIDTH, height=HEIGHT) if self.sized else Canvas(),
            sampling=Sampling(steps=steps, seed=SEED, count=COUNT),
            guidance=GuidanceRequest(weight=weight, negative=NEGATIVE),
            **self.request,
        )

    def theirs(
        self, pipeline: DiffusionPipeline, request: ImageRequest, **more: Any
    ) -> tuple[list[torch.Tensor], np.ndarray]:
        """The latents after every step, and the pictures (B, H, W, 3)."""
        seen: list[torch.Tensor] = []

        def record(_: Any, step: int, t: Any, values: dict[str, torch.Tensor]) -> dict[str, Any]:
            seen.append(values["latents"].clone())
            return {}

        step = pipeline.scheduler.step

        @functools.wraps(step)  # the pipeline looks at its signature
        def watched(*arguments: Any, **options: Any) -> Any:
            out = step(*arguments, **options)
            seen.append(out[0].clone())
            return out

        size = {} if self.request and "mask_image" not in self.call else {"width": WIDTH, "height": HEIGHT}
        new = "callback_on_step_end" in inspect.signature(pipeline.__call__).parameters
        # Older pipelines' callback misses every second call of the schedulers that make two a step.
        with nullcontext() if new else mock.patch.object(pipeline.scheduler, "step", watched):
            images = pipeline(
                [PROMPT] * COUNT,
                negative_prompt=[NEGATIVE] * COUNT,
                num_inference_steps=request.sampling.steps,
                guidance_scale=request.guidance.weight,
                generator=[torch.Generator().manual_seed(SEED + i) for i in range(COUNT)],
                **({"callback_on_step_end": record} if new else {}),
                **size,
                **self.call,
                **more,
            ).images
        return seen, np.stack([np.asarray(image) for image in images]).astype(int)

    def opened(self, folder: Path, dtype: torch.dtype = torch.float64) -> DiffusionPipeline:
        pipeline = self.opens.from_pretrained(folder, torch_dtype=dtype, **self.options)
        pipeline.set_progress_bar_config(disable=True)
        # Else it encodes, and draws, in float32, whatever the type.
        pipeline.vae.register_to_config(force_upcast=False)
        return pipeline


def _guided(strength: float = STRENGTH) -> dict[str, Any]:
    """The request's and diffusers' words for a guide."""
    return {
        "pictures": {PICTURE: photo()},
        "request": {"start": Start(image=PICTURE, strength=strength)},
        "call": {"image": photo(), "strength": strength},
    }


_masked: dict[str, Any] = {
    "pictures": {PICTURE: photo(), OTHER: mask()},
    "request": {"start": Start(image=PICTURE, mask=OTHER, strength=1.0, paste=False)},
    "call": {"image": [photo()] * COUNT, "mask_image": [mask()] * COUNT, "strength": 1.0},
}

FAMILIES: tuple[Family, ...] = (
    Family("sd1", lambda: tiny_pipeline("sd1")),
    Family("sd2", lambda: tiny_pipeline("sd2")),
    Family("xl", lambda: tiny_xl_pipeline("base"), options=UNMARKED),
    Family(
        "xl-refiner",
        lambda: tiny_xl_pipeline("refiner"),
        StableDiffusionXLImg2ImgPipeline,
        options=UNMARKED,
        **_guided(),
    ),
    Family(
        "sd1-inpainting",
        lambda: StableDiffusionInpaintPipeline(
            **(tiny_pipeline("sd1").components | {"unet": tiny_unet("sd1", in_channels=9)}),
            requires_safety_checker=False,
        ),
        **_masked,
    ),
    Family("xl-inpainting", lambda: tiny_xl_pipeline("inpainting"), options=UNMARKED, **_masked),
    Family(
        "instruct-pix2pix",
        _controlled(StableDiffusionInstructPix2PixPipeline, "sd1", 8),
        pictures={PICTURE: photo()},
        request={"control": Control(image=PICTURE, weight=1.5)},
        call={"image": photo(), "image_guidance_scale": 1.5},
        weights=(2.0, 6.0),  # without guidance by the words theirs leaves out that by the picture, too
    ),
    Family(
        "sd2-depth",
        _controlled(StableDiffusionDepth2ImgPipeline, "sd2", 5),
        StableDiffusionDepth2ImgPipeline,
        pictures={PICTURE: depth(), OTHER: photo(1)},
        request={"control": Control(image=PICTURE), "start": Start(image=OTHER, strength=STRENGTH)},
        call={
            "image": photo(1),
            "strength": STRENGTH,
            "depth_map": torch.from_numpy(np.asarray(depth()).astype(np.float64))[None],
        },
        options={"depth_estimator": None, "feature_extractor": None},
    ),
    Family(
        "x4-upscaler",
        tiny_upscaler,
        pictures={PICTURE: small()},
        request={"control": Control(image=PICTURE, noise_level=20)},
        call={"image": [small()] * COUNT, "noise_level": 20},
        sized=False,
    ),
)
