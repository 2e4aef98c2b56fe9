"""Stable Diffusion XL's base handing over to its refiner, against diffusers' denoising_end and denoising_start.

Both sides in float64; what differs is the schedulers' float32, as in test_pictures.py. Samplers that ask twice a step
are cut within one there, and between two here.
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
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
    UniPCMultistepScheduler,
)
from test_pictures import PUBLISHED, compare, ours
from test_tiny_autoencoder import tiny_taesd
from tiny_xl import tiny_xl_pipeline

from latentbrush import Canvas, GuidanceRequest, ImageRequest, Sampling, UserError, load
from latentbrush.formats import with_refiner
from latentbrush.model import LatentDiffusion
from latentbrush.pipeline import generate, plan_of, resolve, to_image
from latentbrush.request import Micro, Stage, Start

pytestmark = [
    pytest.mark.capability("base-and-refiner", "stable-diffusion-xl"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

SEED, COUNT = 4, 2
SCHEDULERS: dict[str, tuple[type, dict[str, Any]]] = {
    "euler": (EulerDiscreteScheduler, {"steps_offset": 1}),
    "ddim": (DDIMScheduler, {}),
    "euler-ancestral": (EulerAncestralDiscreteScheduler, {"timestep_spacing": "trailing"}),
    "dpmpp": (DPMSolverMultistepScheduler, {"timestep_spacing": "trailing"}),
    "unipc": (UniPCMultistepScheduler, {}),
}
CALLS = [(10, 0.8, 5.0), (5, 0.5, 1.0)]


def asking(folder: Path, steps: int, share: float, weight: float = 5.0, **more: Any) -> ImageRequest:
    return ImageRequest(
        prompt="a red cat on 고양이",
        canvas=Canvas(width=32, height=40),
        sampling=Sampling(steps=steps, seed=SEED, count=COUNT, **more),
        guidance=GuidanceRequest(weight=weight, negative="a blue dog"),
        micro=Micro(original=(20, 24), crop=(3, 5), aesthetic=7.5, negative_aesthetic=2.0),
        stages=(Stage(model=str(folder), handover=share),),
    )


def theirs(base: DiffusionPipeline, refiner: DiffusionPipeline, request: ImageRequest) -> Any:
    """One after the other, by the same generators."""
    seen: list[torch.Tensor] = []

    def record(_: Any, step: int, t: Any, values: dict[str, torch.Tensor]) -> dict[str, Any]:
        seen.append(values["latents"].clone())
        return {}

    [stage] = request.stages
    shared: dict[str, Any] = {
        "prompt": [request.prompt] * COUNT,
        "negative_prompt": [request.guidance.negative] * COUNT,
        "num_inference_steps": request.sampling.steps,
        "guidance_scale": request.guidance.weight,
        "generator": [torch.Generator().manual_seed(SEED + i) for i in range(COUNT)],
        "callback_on_step_end": record,
        "original_size": (24, 20),
        "crops_coords_top_left": (5, 3),
        "target_size": (40, 32),
    }
    latents = base(width=32, height=40, denoising_end=stage.handover, output_type="latent", **shared).images
    # That pipeline alone has a crop of its own for the negative prompt, (0, 0) unless it is told.
    told = {"aesthetic_score": 7.5, "negative_aesthetic_score": 2.0, "negative_crops_coords_top_left": (5, 3)}
    images = refiner(image=latents, denoising_start=stage.handover, **told, **shared).images
    return seen, np.stack([np.asarray(image) for image in images]).astype(int)


def opened(folder: Path, pipeline: type = DiffusionPipeline) -> DiffusionPipeline:
    result = pipeline.from_pretrained(folder, torch_dtype=torch.float64, add_watermarker=False)
    result.set_progress_bar_config(disable=True)
    return result


def saved(tmp_path: Path, name: str = "euler") -> tuple[Path, Path]:
    scheduler, changes = SCHEDULERS[name]
    for kind in ("base", "refiner"):
        tiny_xl_pipeline(kind, scheduler, **changes).save_pretrained(tmp_path / kind)
    return tmp_path / "base", tmp_path / "refiner"


def pair(base: Path, request: ImageRequest, dtype: torch.dtype = torch.float64) -> LatentDiffusion:
    return with_refiner(load(base, dtype=dtype), request.stages)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_base_and_refiner(name: str, tmp_path: Path) -> None:
    base, refiner = saved(tmp_path, name)
    pipelines = opened(base), opened(refiner, StableDiffusionXLImg2ImgPipeline)
    model = pair(base, asking(refiner, 5, 0.8))
    for steps, share, weight in CALLS:
        request = asking(refiner, steps, share, weight)
        compare(ours(model, request), theirs(*pipelines, request), PUBLISHED)


def test_without_a_stage_it_is_the_base_alone(tmp_path: Path) -> None:
    base, refiner = saved(tmp_path)
    request = asking(refiner, 5, 0.8)
    model = pair(base, request)
    alone = request.model_copy(update={"stages": ()})
    (steps, pictures), (refined, _) = ours(model, alone), ours(model, request)
    compare((steps, pictures), ours(load(base, dtype=torch.float64), alone), 0.0)
    assert torch.equal(refined[3], steps[3])
    assert float((refined[4] - steps[4]).abs().max()) > 1e-3 * float(steps[4].abs().max())


def test_samplers_of_two_calls_a_step_are_cut_between_steps(tmp_path: Path) -> None:
    """The base's own steps and the refiner's own, none twice and none left out."""
    base, refiner = saved(tmp_path)
    request = asking(refiner, 6, 0.5, sampler="heun")
    model = pair(base, request)
    steps, pictures = ours(model, request)
    plan = plan_of(model, resolve(model, request))
    assert len(plan.steps) == 6
    assert len(steps) == plan.calls == 11
    assert pictures.std() > 10


@pytest.mark.capability("low-memory")
def test_low_memory_changes_no_pixel(tmp_path: Path) -> None:
    base, refiner = saved(tmp_path)
    request = asking(refiner, 5, 0.6)
    model = load(base, dtype=torch.float64, low_memory=True)
    found = ours(with_refiner(model, request.stages), request)
    compare(found, ours(pair(base, request), request), 0.0)
    # What holds for a model holds for its refiner.
    compare(found, ours(pair(base, request).one_part_on("cpu"), request), 0.0)
    again = pair(base, request).to(dtype=torch.float32)
    assert again.refiner is not None
    assert again.refiner.dtype == torch.float32


@pytest.mark.capability("other-autoencoder")
def test_another_autoencoder_decodes_what_the_refiner_painted(tmp_path: Path) -> None:
    base, refiner = saved(tmp_path)
    tiny_taesd().save_pretrained(tmp_path / "taesd")
    request = asking(refiner, 5, 0.8)
    model, usual = load(base, dtype=torch.float64, vae=tmp_path / "taesd"), ours(pair(base, request), request)
    steps, pictures = ours(with_refiner(model, request.stages), request)
    assert all(torch.equal(mine, other) for mine, other in zip(steps, usual[0], strict=True))
    decoded = model.autoencoder.decode(steps[-1])
    assert np.abs(pictures - np.stack([np.asarray(to_image(one)) for one in decoded])).max() == 0
    assert np.abs(pictures - usual[1]).max() > 10


@pytest.mark.capability("one-line-errors")
def test_what_is_refused(tmp_path: Path) -> None:
    base, refiner = saved(tmp_path)
    model = pair(base, asking(refiner, 5, 0.8), torch.float32)
    for request, said in (
        (asking(refiner, 5, 0.01), "a handover at 0.01 of 5 steps leaves none before it"),
        (asking(refiner, 2, 0.9995), "a handover at 0.9995 of 2 steps leaves none after it"),
        (asking(refiner, 5, 0.8, sampler="plms"), "plms cannot be taken over in the middle"),
        (asking(refiner, 5, 0.8).model_copy(update={"start": Start(image="0" * 64)}), "leave one of them out"),
    ):
        with pytest.raises(UserError, match=said):
            generate(model, request)
    with pytest.raises(UserError, match="was loaded without it; load it with"):
        generate(load(base), asking(refiner, 5, 0.8))
    with pytest.raises(UserError, match="its dtype is float64, the model's float32"):
        model.refine_by(load(refiner, dtype=torch.float64))
    with pytest.raises(UserError, match="the refiner does not fit the model: its"):
        model.refine_by(load("emoji"))
