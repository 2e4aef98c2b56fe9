"""Whole pictures without words against diffusers' DDPMPipeline, DDIMPipeline and LDMPipeline, x after every step too.

The oracle is the pipeline as it comes, opened from the same folder; both sides are cast to float64, so that
what is left is not the networks' rounding but a difference of meaning, if there is one.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerDiscreteScheduler,
    LDMPipeline,
    PNDMScheduler,
)
from test_pictures import PIXELS, PUBLISHED, SINGLE, compare, ours
from tiny_wordless import FACTOR, SAMPLE_SIZE, save_wordless
from torch import Tensor

from latentbrush import ImageRequest, Sampling, UserError, load
from latentbrush.formats import save_model, summarise

pytestmark = [
    pytest.mark.capability("unconditional"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

SEEDS, STEPS = [5, 6, 7], [3, 11]
# As published: Stable Diffusion's pipelines never clip, these do unless the scheduler is told not to.
LATENTS: dict[str, Any] = {
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "beta_schedule": "scaled_linear",
}
CASES: dict[str, tuple[type, Any, dict[str, Any]]] = {
    "ddpm": (DDPMPipeline, DDPMScheduler(), {"attention_head_dim": None, "downsample_padding": 0, "freq_shift": 1}),
    "ddpm-large": (DDPMPipeline, DDPMScheduler(variance_type="fixed_large", clip_sample_range=0.6), {}),
    "ddpm-v": (DDPMPipeline, DDPMScheduler(clip_sample=False, prediction_type="v_prediction"), {}),
    "ddpm-dynamic": (DDPMPipeline, DDPMScheduler(thresholding=True, sample_max_value=3.0), {}),
    "ddpm-dpmpp": (DDPMPipeline, DPMSolverMultistepScheduler(), {}),
    "ddpm-dpmpp-2s": (DDPMPipeline, DPMSolverSinglestepScheduler(), {}),
    "ddim": (DDIMPipeline, DDIMScheduler(), {}),
    "ddim-offset": (DDIMPipeline, DDIMScheduler(steps_offset=1, set_alpha_to_one=False), {"center_input_sample": True}),
    "ldm": (LDMPipeline, DDIMScheduler(clip_sample=False, **LATENTS), {}),
    "ldm-clipped": (LDMPipeline, DDIMScheduler(prediction_type="sample"), {}),
    "ldm-pndm": (LDMPipeline, PNDMScheduler(skip_prk_steps=True, **LATENTS), {}),
    # Leading spacing starts lower than the pipeline does, which asks for the first level before it sets its times.
    "ldm-euler": (LDMPipeline, EulerDiscreteScheduler(timestep_spacing="linspace", **LATENTS), {}),
}


def shown(column: str) -> list[Any]:
    """The cases, each marked with what it shows in docs/compatibility.md."""
    rows = {name: "ldm-unconditional" if name.startswith("ldm") else "ddpm" for name in CASES}
    return [pytest.param(name, marks=pytest.mark.compatible(row, column)) for name, row in rows.items()]


@contextmanager
def drawn_as(dtype: torch.dtype) -> Iterator[None]:
    """LDMPipeline names no type for its noise; ours is drawn in the model's, and another type is another stream."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def theirs(pipeline: DiffusionPipeline, steps: int, **options: Any) -> tuple[list[Tensor], np.ndarray]:
    """x after every step, and the pictures; a list of generators, one a picture."""
    seen: list[Tensor] = []
    step = pipeline.scheduler.step

    @functools.wraps(step)  # the pipeline looks at its signature
    def watched(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        seen.append(result.prev_sample.clone())
        return result

    pipeline.scheduler.step = watched
    options = {"generator": [torch.Generator().manual_seed(seed) for seed in SEEDS], "batch_size": len(SEEDS)} | options
    try:
        with drawn_as(pipeline.unet.dtype):
            images = pipeline(num_inference_steps=steps, **options).images
    finally:
        pipeline.scheduler.step = step
    return seen, np.stack([np.asarray(image) for image in images]).astype(int)


def opened(folder: Path, dtype: torch.dtype = torch.float64) -> DiffusionPipeline:
    pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def wanted(steps: int | None, **sampling: Any) -> ImageRequest:
    return ImageRequest(prompt="", sampling=Sampling(**{"steps": steps, "seed": 5, "count": 3, **sampling}))


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("theirs")
    pipeline, scheduler, changes = CASES[request.param]
    save_wordless(path, pipeline, scheduler, **changes)
    return path


@pytest.mark.capability("diffusers-noise")
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("folder", shown("folder"), indirect=True)
def test_pictures(folder: Path, steps: int) -> None:
    model, pipeline = load(folder, dtype=torch.float64), opened(folder)
    latent = isinstance(pipeline, LDMPipeline)
    side = SAMPLE_SIZE * (FACTOR if latent else 1)
    assert (model.defaults.width, model.defaults.height, model.defaults.guidance) == (side, side, 1)
    compare(ours(model, wanted(steps)), theirs(pipeline, steps), PUBLISHED)


@pytest.mark.capability("diffusers-folders")
@pytest.mark.parametrize("folder", shown("save"), indirect=True)
def test_folders_go_both_ways(folder: Path, tmp_path: Path) -> None:
    """Every tensor and every setting of what diffusers saved, in what we save; and the pipeline, by its name."""
    model = load(folder)
    save_model(model, tmp_path / "ours")
    first, second = opened(folder, torch.float32), opened(tmp_path / "ours", torch.float32)
    assert type(first) is type(second)
    assert first.components.keys() == second.components.keys()
    for name in first.components.keys() - {"scheduler"}:
        mine, other = first.components[name].state_dict(), second.components[name].state_dict()
        assert mine.keys() == other.keys()
        assert all(torch.equal(tensor, other[key]) for key, tensor in mine.items())
    ignored = {"_diffusers_version", "_use_default_values"}
    if first.scheduler.config.get("thresholding"):  # then whether it clips is never asked
        ignored.add("clip_sample")
    for key, value in first.scheduler.config.items():
        assert key in ignored or second.scheduler.config[key] == value, key
    again = load(tmp_path / "ours")
    assert (again.clip, again.threshold, again.sampler, again.plan_config()) == (
        *(model.clip, model.threshold, model.sampler),
        model.plan_config(),
    )
    assert again.unet.config == model.unet.config


@pytest.mark.parametrize("folder", ["ddpm", "ldm"], indirect=True)
def test_in_single_precision_and_smaller_batches(folder: Path) -> None:
    """As users have them: both loaded with default arguments; here painted one by one, there all at once."""
    steps, pictures = ours(load(folder), wanted(5, batch_size=1))
    joined = [torch.cat(steps[i::5]) for i in range(5)]
    compare((joined, pictures), theirs(opened(folder, torch.float32), 5), SINGLE)


@pytest.mark.parametrize("folder", ["ddim", "ldm"], indirect=True)
def test_eta_from_the_folder(folder: Path, tmp_path: Path) -> None:
    """diffusers takes eta as an argument only, our folders keep it in latentbrush.json."""
    save_model(load(folder), tmp_path / "ours")
    defaults = json.loads((tmp_path / "ours" / "latentbrush.json").read_text())
    (tmp_path / "ours" / "latentbrush.json").write_text(json.dumps(defaults | {"eta": 1.0}))
    model, pipeline = load(tmp_path / "ours", dtype=torch.float64), opened(folder)
    if isinstance(pipeline, LDMPipeline):  # its scheduler draws from the global generator, whatever is passed
        torch.manual_seed(SEEDS[0])
        expected = theirs(pipeline, 5, eta=1.0, batch_size=1, generator=None)
        found = ours(model, wanted(5, count=1))
    else:
        expected, found = theirs(pipeline, 5, eta=1.0), ours(model, wanted(5))
    compare(found, expected, PUBLISHED)
    without = theirs(pipeline, 5)
    assert np.abs(found[1][0] - without[1][0]).max() > 10 * PIXELS


@pytest.mark.parametrize("folder", ["ddpm"], indirect=True)
@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m"])
def test_another_sampler_is_as_their_scheduler_made_from_the_same_file(folder: Path, sampler: str) -> None:
    """Which clips where its class does."""
    classes = {"ddim": DDIMScheduler, "dpmpp_2m": DPMSolverMultistepScheduler}
    pipeline = opened(folder)
    pipeline.scheduler = classes[sampler].from_config(pipeline.scheduler.config)
    model = load(folder, sampler=sampler, dtype=torch.float64)
    assert model.clip == (1.0 if sampler == "ddim" else None)
    compare(ours(model, wanted(7)), theirs(pipeline, 7), PUBLISHED)


def test_ddim_pipelines_make_any_scheduler_ddim(tmp_path: Path) -> None:
    save_wordless(tmp_path, DDPMPipeline, DDPMScheduler(variance_type="fixed_large"))
    index = json.loads((tmp_path / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"_class_name": "DDIMPipeline"}))
    model, pipeline = load(tmp_path, dtype=torch.float64), opened(tmp_path)
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    compare(ours(model, wanted(5)), theirs(pipeline, 5), PUBLISHED)


def test_a_folder_without_folders(tmp_path: Path) -> None:
    """As google/ddpm-cifar10-32 and its kin were published: UNet and scheduler lie in the model's own folder."""
    save_wordless(tmp_path / "flat", DDPMPipeline, DDPMScheduler(variance_type="fixed_large"))
    whole = load(tmp_path / "flat", dtype=torch.float64)
    for part in ("unet", "scheduler"):
        for file in (tmp_path / "flat" / part).iterdir():
            file.rename(tmp_path / "flat" / file.name)
        (tmp_path / "flat" / part).rmdir()
    model = load(tmp_path / "flat", dtype=torch.float64)
    compare(ours(model, wanted(3)), theirs(opened(tmp_path / "flat"), 3), PUBLISHED)
    assert model.plan_config() == whole.plan_config()
    assert model.origin is not None
    assert list(model.origin.weights) == ["diffusion_pytorch_model.safetensors"]
    assert summarise(tmp_path / "flat").parts[0].parameters == sum(p.numel() for p in model.unet.parameters())
    weights = tmp_path / "flat" / "diffusion_pytorch_model.safetensors"
    weights.rename(tmp_path / "elsewhere.safetensors")
    weights.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(UserError, match=r"is a link to .*elsewhere\.safetensors, which leads out of its folder"):
        load(tmp_path / "flat")


@pytest.mark.capability("class-to-image")
def test_labels_paint_what_the_network_says_of_them(tmp_path: Path) -> None:
    """diffusers' pipelines pass no labels, its UNet takes them: the loop is theirs, with a label each call."""
    pipeline = save_wordless(tmp_path, DDIMPipeline, DDIMScheduler(), num_class_embeds=4)
    pipeline = opened(tmp_path)
    model = load(tmp_path, dtype=torch.float64)
    pictures = []
    for label in (0, 3):
        forward = functools.partial(
            type(pipeline.unet).forward, pipeline.unet, class_labels=torch.full((3,), label, dtype=torch.long)
        )
        pipeline.unet.forward = forward
        found = ours(model, wanted(5).model_copy(update={"label": label}))
        compare(found, theirs(pipeline, 5), PUBLISHED)
        pictures.append(found[1])
    assert np.abs(pictures[0] - pictures[1]).max() > 10 * PIXELS
