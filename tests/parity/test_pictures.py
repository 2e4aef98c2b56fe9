"""Whole pictures against diffusers' StableDiffusionPipeline, latents after every step and final pixels.

The oracle is the pipeline as it comes, opened from the same folder; both sides are cast to float64, so that
what is left is not the networks' rounding but a difference of meaning, if there is one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
)
from tiny import Kind, save_tiny_pipeline
from torch import Tensor

from latentbrush import Canvas, GuidanceRequest, ImageRequest, ModelRequest, Sampling, generate, load
from latentbrush.formats import save_model
from latentbrush.model import LatentDiffusion, ModelDefaults

# Relative to the greatest latent of the step. diffusers' schedulers compute their coefficients, and Euler and
# DPM++ every step, in float32 whatever the networks' type. Measured: 2e-7; 8e-6 for Euler at zero SNR, which
# starts from 4096 times the noise and loses as much of its digits on the way down.
PUBLISHED = 2e-5
# Both sides in float32, as users have them: the networks' sums are made in another order. Measured: 7e-6.
SINGLE = 1e-4
# Values are rounded to 0..255; where they lie near a half, either side may fall.
PIXELS = 1

ZERO_SNR = {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True}
CASES: dict[str, tuple[Kind, type, dict[str, Any]]] = {
    "sd1-ddim": ("sd1", DDIMScheduler, {}),
    "sd1-euler": ("sd1", EulerDiscreteScheduler, {}),
    "sd1-dpmpp": ("sd1", DPMSolverMultistepScheduler, {}),
    "sd2-ddim": ("sd2", DDIMScheduler, ZERO_SNR),
    "sd2-euler": ("sd2", EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
    "sd2-euler-zero-snr": ("sd2", EulerDiscreteScheduler, ZERO_SNR),
    "sd2-dpmpp": ("sd2", DPMSolverMultistepScheduler, {"timestep_spacing": "trailing"}),
    "sd2-dpmpp-zero-snr": ("sd2", DPMSolverMultistepScheduler, ZERO_SNR),
}
# Steps, guidance, negative prompt, width, height: each value with each other one at least once.
CALLS = [(7, 1.0, "", 32, 32), (7, 7.5, "a blue dog", 48, 32), (2, 7.5, "", 32, 32), (2, 1.0, "a blue dog", 24, 40)]
PROMPT = "a red cat on 고양이"
SEEDS = [0, 1, 2]

# numpy's complaint about how diffusers turns its tables into arrays
pytestmark = [
    pytest.mark.capability("text-to-image"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def wanted(steps: int, weight: float, negative: str, width: int, height: int, **sampling: Any) -> ImageRequest:
    return ImageRequest(
        prompt=PROMPT,
        canvas=Canvas(width=width, height=height),
        sampling=Sampling(**{"steps": steps, "seed": SEEDS[0], "count": len(SEEDS), **sampling}),
        guidance=GuidanceRequest(weight=weight, negative=negative),
    )


def ours(model: LatentDiffusion, request: ImageRequest) -> tuple[list[Tensor], np.ndarray]:
    """The latents after every step, and the pictures (B, H, W, 3)."""
    steps: list[Tensor] = []

    def on_step(x: Tensor, level: object, denoised: object) -> Tensor:
        steps.append(x.clone())
        return x

    images = generate(model, request, on_step)
    return steps, np.stack([np.asarray(image.image) for image in images]).astype(int)


def theirs(pipeline: StableDiffusionPipeline, request: ImageRequest, **options: Any) -> tuple[list[Tensor], np.ndarray]:
    """The same from diffusers: as many prompts as pictures, and a list of generators, one a picture."""
    steps: list[Tensor] = []

    def on_step_end(_: object, step: int, t: object, values: dict[str, Tensor]) -> dict[str, Tensor]:
        steps.append(values["latents"].clone())
        return {}

    sampling, count = request.sampling, request.sampling.count
    assert sampling.seed is not None
    images = pipeline(
        [request.prompt] * count,
        negative_prompt=[request.guidance.negative] * count,
        width=request.canvas.width,
        height=request.canvas.height,
        num_inference_steps=sampling.steps,
        guidance_scale=request.guidance.weight,
        generator=[torch.Generator("cpu").manual_seed(sampling.seed + i) for i in range(count)],
        callback_on_step_end=on_step_end,
        **options,
    ).images
    return steps, np.stack([np.asarray(image) for image in images]).astype(int)


def compare(
    found: tuple[list[Tensor], np.ndarray], expected: tuple[list[Tensor], np.ndarray], tolerance: float
) -> None:
    assert len(found[0]) == len(expected[0])
    for mine, other in zip(found[0], expected[0], strict=True):
        assert mine.dtype == other.dtype
        assert mine.shape == other.shape
        assert float((mine - other).abs().max()) <= tolerance * float(other.abs().max())
    assert found[1].shape == expected[1].shape
    assert int(np.abs(found[1] - expected[1]).max()) <= PIXELS
    # Not a comparison of nothing with nothing: every picture has contrast, and no two are alike.
    for i, picture in enumerate(expected[1]):
        assert picture.std() > 10
        assert all(np.abs(picture - other).max() > 10 * PIXELS for other in expected[1][:i])


def opened(folder: Path, dtype: torch.dtype = torch.float64) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What diffusers saved, once for all tests of a case."""
    path = tmp_path_factory.mktemp("theirs")
    kind, scheduler, changes = CASES[request.param]
    save_tiny_pipeline(path, kind, scheduler, **changes)
    return path


@pytest.fixture(scope="module")
def pair(folder: Path) -> tuple[LatentDiffusion, StableDiffusionPipeline]:
    return load(folder, dtype=torch.float64), opened(folder)


@pytest.mark.compatible("sd1", "folder")
@pytest.mark.compatible("sd2", "folder")
@pytest.mark.capability("zero-terminal-snr", "diffusers-noise")
@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call[0]}-steps-guidance-{call[1]}")
@pytest.mark.parametrize("folder", CASES, indirect=True)
def test_pictures(pair: tuple[LatentDiffusion, StableDiffusionPipeline], folder: Path, call: Any) -> None:
    model, pipeline = pair
    request = wanted(*call)
    compare(ours(model, request), theirs(pipeline, request), PUBLISHED)


@pytest.mark.parametrize("folder", ["sd1-ddim", "sd2-dpmpp"], indirect=True)
def test_pictures_in_single_precision_and_smaller_batches(folder: Path) -> None:
    """As users have them: both loaded with default arguments; here painted one by one, there all at once."""
    model, pipeline = load(folder), StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    request = wanted(*CALLS[1], batch_size=1)
    steps, pictures = ours(model, request)
    n = len(steps) // len(SEEDS)
    joined = [torch.cat(steps[i::n]) for i in range(n)]
    compare((joined, pictures), theirs(pipeline, request), SINGLE)


@pytest.mark.capability("ddim")
@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize("folder", ["sd1-ddim"], indirect=True)
def test_eta_from_the_folder(folder: Path, tmp_path: Path, eta: float) -> None:
    """diffusers takes eta as an argument only, our folders keep it in latentbrush.json; every draw agrees."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    defaults = {"format": 1, "steps": 5, "guidance": 7.5, "width": 32, "height": 32, "eta": eta}
    (tmp_path / "latentbrush.json").write_text(json.dumps(defaults))
    request = wanted(*CALLS[1])
    pipeline = opened(folder)
    found = ours(load(tmp_path, dtype=torch.float64), request)
    compare(found, theirs(pipeline, request, eta=eta), PUBLISHED)
    without = theirs(pipeline, request)
    assert np.abs(found[1] - without[1]).max() > 10 * PIXELS


@pytest.mark.compatible("sd1", "save")
@pytest.mark.compatible("sd2", "save")
@pytest.mark.capability("half-precision-files")
@pytest.mark.parametrize(
    ("sampler", "kind", "dtype"),
    [
        ("ddim", "sd1", torch.float32),
        ("ddim", "sd2", torch.float16),
        ("euler", "sd2", torch.float32),
        ("dpmpp_2m", "sd1", torch.float16),
    ],
)
def test_our_folders_paint_the_same_in_diffusers(
    sampler: str, kind: Kind, dtype: torch.dtype, make_model: Callable[..., LatentDiffusion], tmp_path: Path
) -> None:
    """A folder that we saved, opened by diffusers with default arguments, also where it stores halves."""
    options: dict[str, Any] = {"spacing": "trailing", "set_alpha_to_one": False}
    model = make_model(
        sampler=sampler,
        prediction="epsilon" if kind == "sd1" else "v_prediction",
        plan_options=None if kind == "sd1" else options,
        defaults=ModelDefaults(steps=5, guidance=3.0, width=32, height=32),
    )
    save_model(model, tmp_path / "ours", dtype=dtype)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "ours")
    pipeline.set_progress_bar_config(disable=True)
    assert {part.dtype for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder)} == {torch.float32}
    request = wanted(5, 3.0, "a blue dog", 32, 32, count=2)
    again = load(tmp_path / "ours")
    assert (again.prediction, again.sampler) == (model.prediction, model.sampler)
    found = ours(again, request)
    compare(found, theirs(pipeline, request), SINGLE)
    if dtype == torch.float32:  # the folder is the model; halves are rounded
        assert np.array_equal(found[1], ours(model, request)[1])
    # Without any argument but prompt and seed, sizes are alike, too.
    unsaid = ImageRequest(prompt=PROMPT, sampling=Sampling(seed=4, steps=50), guidance=GuidanceRequest(weight=7.5))
    [alone] = pipeline(PROMPT, generator=torch.Generator("cpu").manual_seed(4)).images
    [mine] = ours(again, unsaid)[1]
    assert int(np.abs(np.asarray(alone).astype(int) - mine).max()) <= PIXELS


def test_a_request_names_the_folder(make_model: Callable[..., LatentDiffusion], tmp_path: Path) -> None:
    """The way of the command line: the request's model name is what `load` takes."""
    save_model(make_model(), tmp_path / "ours")
    request = ImageRequest(prompt=PROMPT, model=ModelRequest(name=str(tmp_path / "ours")), sampling=Sampling(steps=1))
    [image] = generate(load(request.model.name), request)
    assert image.image.size == (32, 32)
