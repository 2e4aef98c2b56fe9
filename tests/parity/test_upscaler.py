"""The x4 upscaler against diffusers' StableDiffusionUpscalePipeline: whole pictures and every step, both in float64.

What differs is the schedulers' float32, as in test_pictures.py.
"""

from __future__ import annotations

import json
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
    StableDiffusionUpscalePipeline,
    UniPCMultistepScheduler,
)
from PIL import Image
from test_pictures import PUBLISHED, compare
from tiny_upscaler import tiny_upscaler

from latentbrush import GuidanceRequest, ImageRequest, Sampling, UserError, generate, load
from latentbrush.formats import convert, save_model
from latentbrush.model import LatentDiffusion
from latentbrush.request import Canvas, Control, Start

pytestmark = [
    pytest.mark.capability("x4-upscaler"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

SEED, COUNT, NAME = 4, 3, "0" * 64
CASES: dict[str, tuple[type, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {}),
    "offset-0": (DDIMScheduler, {"steps_offset": 0}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler-ancestral": (EulerAncestralDiscreteScheduler, {"timestep_spacing": "trailing"}),
    "dpmpp": (DPMSolverMultistepScheduler, {}),
    "unipc": (UniPCMultistepScheduler, {}),
}
# Steps, guidance, noise level, size of the small picture: each value with each sampler.
CALLS = [(4, 9.0, 20, (12, 8)), (7, 1.0, 350, (8, 16)), (4, 1.0, 0, (8, 8)), (7, 9.0, 350, (20, 12))]


def photo(size: tuple[int, int], seed: int = 0) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def asking(steps: int, weight: float, level: int | None, negative: str = "") -> ImageRequest:
    return ImageRequest(
        prompt="a red cat",
        sampling=Sampling(steps=steps, seed=SEED, count=COUNT),
        guidance=GuidanceRequest(weight=weight, negative=negative),
        control=Control(image=NAME, noise_level=level),
    )


def ours(model: LatentDiffusion, request: ImageRequest, picture: Image.Image) -> tuple[list[torch.Tensor], np.ndarray]:
    seen: list[torch.Tensor] = []

    def on_step(x: torch.Tensor, *_: Any) -> torch.Tensor:
        seen.append(x.clone())
        return x

    images = generate(model, request, on_step, {NAME: picture})
    return seen, np.stack([np.asarray(image.image) for image in images]).astype(int)


def theirs(
    pipeline: DiffusionPipeline, request: ImageRequest, picture: Image.Image
) -> tuple[list[torch.Tensor], np.ndarray]:
    """One small picture a prompt: of one for all it would draw the noise of the first generator alone."""
    seen: list[torch.Tensor] = []
    level = request.control.noise_level
    images = pipeline(
        [request.prompt] * COUNT,
        [picture] * COUNT,
        negative_prompt=[request.guidance.negative] * COUNT,
        num_inference_steps=request.sampling.steps,
        guidance_scale=request.guidance.weight,
        generator=[torch.Generator().manual_seed(SEED + i) for i in range(COUNT)],
        callback=lambda step, t, latents: seen.append(latents.clone()),
        **({} if level is None else {"noise_level": level}),
    ).images
    return seen, np.stack([np.asarray(image) for image in images]).astype(int)


def opened(folder: Path) -> StableDiffusionUpscalePipeline:
    pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float64)
    assert isinstance(pipeline, StableDiffusionUpscalePipeline)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.compatible("x4-upscaler", "folder")
@pytest.mark.parametrize("case", CASES)
def test_pictures(case: str, tmp_path: Path) -> None:
    scheduler, changes = CASES[case]
    tiny_upscaler(scheduler, **changes).save_pretrained(tmp_path / "theirs")
    model, pipeline = load(tmp_path / "theirs", dtype=torch.float64), opened(tmp_path / "theirs")
    assert model.task == "upscaling"
    for steps, weight, level, size in CALLS:
        request = asking(steps, weight, level)
        compare(ours(model, request, photo(size)), theirs(pipeline, request, photo(size)), PUBLISHED)


@pytest.mark.compatible("x4-upscaler", "save")
def test_our_folder_and_another_schedule_for_small_pictures(tmp_path: Path) -> None:
    low_res = {"beta_start": 0.001, "beta_end": 0.015, "beta_schedule": "linear"}
    tiny_upscaler(low_res=low_res).save_pretrained(tmp_path / "theirs")
    model = load(tmp_path / "theirs", dtype=torch.float64)
    save_model(model, tmp_path / "ours")
    request, small = asking(4, 9.0, 200, "a blue dog"), photo((12, 8))
    found = ours(model, request, small)
    for folder in ("theirs", "ours"):
        compare(found, theirs(opened(tmp_path / folder), request, small), PUBLISHED)
    compare(ours(load(tmp_path / "ours", dtype=torch.float64), request, small), found, 0.0)
    for part in ("low_res_scheduler", "unet", "vae"):
        assert (tmp_path / "ours" / part).is_dir()


def test_defaults(tmp_path: Path) -> None:
    """75 steps, guidance 9 and the noise level 20; here counted, not painted."""
    tiny_upscaler().save_pretrained(tmp_path)
    model = load(tmp_path, dtype=torch.float64)
    assert (model.defaults.steps, model.defaults.guidance) == (75, 9.0)
    request = ImageRequest(prompt="", sampling=Sampling(steps=1), control=Control(image=NAME))
    [image] = generate(model, request, images={NAME: photo((8, 8))})
    assert (image.request.control.noise_level, image.request.guidance.weight) == (20, 9.0)


def test_any_size_becomes_four_times_as_large(tmp_path: Path) -> None:
    """diffusers first cuts a picture to multiples of 4; told not to, it agrees on any other size, too."""
    tiny_upscaler().save_pretrained(tmp_path)
    model, pipeline = load(tmp_path, dtype=torch.float64), opened(tmp_path)
    pipeline.image_processor.register_to_config(do_resize=False)
    for size in ((7, 5), (9, 14), (3, 1)):
        request = asking(2, 9.0, 20)
        found = ours(model, request, photo(size))
        assert found[1].shape[1:3] == (4 * size[1], 4 * size[0])
        compare(found, theirs(pipeline, request, photo(size)), PUBLISHED)


def test_the_scale_of_early_folders(tmp_path: Path) -> None:
    """They say nothing of 0.08333, which diffusers takes for every upscaler."""
    tiny_upscaler().save_pretrained(tmp_path)
    path = tmp_path / "vae" / "config.json"
    content = json.loads(path.read_text())
    del content["scaling_factor"]
    path.write_text(json.dumps(content))
    request, small = asking(4, 9.0, 20), photo((8, 8))
    model, pipeline = load(tmp_path, dtype=torch.float64), opened(tmp_path)
    compare(ours(model, request, small), theirs(pipeline, request, small), PUBLISHED)


@pytest.mark.capability("batch-invariance")
def test_the_small_pictures_noise_is_each_pictures_own(tmp_path: Path) -> None:
    tiny_upscaler(EulerAncestralDiscreteScheduler).save_pretrained(tmp_path)
    model, request = load(tmp_path, dtype=torch.float64), asking(3, 9.0, 300)
    together = ours(model, request, photo((8, 8)))[0][-1]
    alone = request.model_copy(update={"sampling": Sampling(steps=3, seed=SEED + 2)})
    [last] = ours(model, alone, photo((8, 8)))[0][-1]
    assert float((together[2] - last).abs().max()) < 1e-9


@pytest.mark.capability("one-line-errors")
def test_what_an_upscaler_refuses(tmp_path: Path) -> None:
    tiny_upscaler().save_pretrained(tmp_path)
    model, request, small = load(tmp_path), asking(2, 9.0, 20), photo((8, 8))
    for changed, said in (
        (
            {"control": Control(image=NAME, noise_level=351)},
            "the noise level is 351, but the model was trained with 0 to 350",
        ),
        ({"control": Control()}, "trained for upscaling: it needs a small picture"),
        ({"canvas": Canvas(width=64, height=32)}, "a picture of 8x8 pixels becomes 32x32 here; leave out the size"),
        ({"start": Start(image=NAME)}, "starts from noise alone"),
    ):
        with pytest.raises(UserError, match=said):
            ours(model, request.model_copy(update=changed), small)
    with pytest.raises(UserError, match="would become 16388x32; at most 16384"):
        ours(model, request, Image.new("RGB", (4097, 8)))
    with pytest.raises(UserError, match="not among the 0 pictures"):
        generate(model, request)


@pytest.mark.capability("strict-loading")
def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    tiny_upscaler().save_pretrained(folder)
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    for changed, said in (
        ({"low_res_scheduler": None}, "low_res_scheduler, which an upscaler needs"),
        ({"low_res_scheduler": ["diffusers"]}, "needed is a library and a class"),
        ({"max_noise_level": 360}, "max_noise_level is 360, but the UNet knows the noise levels 0 to 359"),
        ({"max_noise_level": 1000}, "max_noise_level is 1000; choose 0 to 999"),
    ):
        path.write_text(json.dumps({**index, **changed}))
        with pytest.raises(UserError, match=said):
            load(folder)
        for to, name in (("diffusers", "out"), ("single-file", "out.safetensors")):
            with pytest.raises(UserError, match=said):
                convert(folder, tmp_path / name, to=to)
    assert list(tmp_path.iterdir()) == [folder]
