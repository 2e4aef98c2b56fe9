"""LDM's super-resolution against diffusers' LDMSuperResolutionPipeline: whole pictures and every step, in float64.

What differs is the schedulers' float32, as in test_pictures.py. Of Euler and its like diffusers scales the small
picture together with the latents, which the network was not trained with; there is no parity with that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    LDMSuperResolutionPipeline,
    UNet2DModel,
    VQModel,
)
from PIL import Image
from test_pictures import PUBLISHED, compare
from test_upscaler import COUNT, NAME, SEED, ours, photo
from tiny import BETAS, randomise

from latentbrush import GuidanceRequest, ImageRequest, Sampling, UserError, load
from latentbrush.formats import save_model
from latentbrush.nn import Condition, UNet2D, UNet2DConfig
from latentbrush.request import Control

pytestmark = [
    pytest.mark.capability("super-resolution"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

SCHEDULERS: dict[str, Any] = {
    "ddim": DDIMScheduler(clip_sample=False, **BETAS),
    "dpmpp": DPMSolverMultistepScheduler(**BETAS),
}


def tiny_super_resolution(scheduler: Any) -> LDMSuperResolutionPipeline:
    """f4; the first stage states a scale of latents, as VQModel's default is, which this pipeline does not take."""
    unet = UNet2DModel(
        sample_size=8,
        in_channels=6,
        out_channels=3,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=8,
    ).eval()
    vqvae = VQModel(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=3,
        num_vq_embeddings=64,
        norm_num_groups=4,
        sample_size=32,
    ).eval()
    randomise(unet, 1)
    randomise(vqvae, 2)
    return LDMSuperResolutionPipeline(vqvae=vqvae, unet=unet, scheduler=scheduler)


def asking(steps: int = 5, **more: Any) -> ImageRequest:
    return ImageRequest(
        prompt=more.pop("prompt", ""),
        sampling=Sampling(steps=steps, seed=SEED, count=COUNT),
        control=Control(image=NAME, **more.pop("control", {})),
        **more,
    )


def theirs(
    pipeline: LDMSuperResolutionPipeline, request: ImageRequest, picture: Image.Image, **more: Any
) -> tuple[list[torch.Tensor], np.ndarray]:
    """A batch of one picture, made as its own preprocessing does, but for the cut to multiples of 32."""
    seen: list[torch.Tensor] = []
    step = pipeline.scheduler.step

    def watched(*arguments: Any, **options: Any) -> Any:
        out = step(*arguments, **options)
        seen.append(out.prev_sample.clone())
        return out

    pipeline.scheduler.step = watched
    values = torch.from_numpy(np.asarray(picture).astype(np.float32) / 255.0)
    pixels = (2.0 * values.permute(2, 0, 1) - 1.0)[None].repeat(COUNT, 1, 1, 1)
    generators = [torch.Generator().manual_seed(SEED + i) for i in range(COUNT)]
    images = pipeline(pixels, num_inference_steps=request.sampling.steps, generator=generators, **more).images
    pipeline.scheduler.step = step
    return seen, np.stack([np.asarray(image) for image in images]).astype(int)


def opened(folder: Path) -> LDMSuperResolutionPipeline:
    pipeline = LDMSuperResolutionPipeline.from_pretrained(folder, torch_dtype=torch.float64)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.compatible("ldm-upscaling", "folder", "save")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["ddim", "dpmpp"])
def test_pictures(name: str, tmp_path: Path) -> None:
    tiny_super_resolution(SCHEDULERS[name]).save_pretrained(tmp_path / "theirs")
    model = load(tmp_path / "theirs", dtype=torch.float64)
    assert (model.task, model.reads_words, model.defaults.steps, model.defaults.guidance) == (
        "upscaling",
        False,
        100,
        1,
    )
    save_model(model, tmp_path / "ours")
    again = load(tmp_path / "ours", dtype=torch.float64)
    for steps, size in ((5, (8, 8)), (3, (16, 12))):
        request, small = asking(steps), photo(size)
        found = ours(model, request, small)
        assert found[1].shape[1:3] == (4 * size[1], 4 * size[0])
        for folder in ("theirs", "ours"):
            compare(found, theirs(opened(tmp_path / folder), request, small), PUBLISHED)
        compare(ours(again, request, small), found, 0.0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.capability("one-line-errors")
def test_what_it_refuses(tmp_path: Path) -> None:
    tiny_super_resolution(SCHEDULERS["ddim"]).save_pretrained(tmp_path)
    model, small = load(tmp_path), photo((8, 8))
    for request, said in (
        (asking(prompt="a red cat"), "the model reads no words; leave it out"),
        (asking(control={"noise_level": 3}), "the noise level is 3, but the model puts none on its picture"),
        (asking(guidance=GuidanceRequest(weight=3.0)), "nothing to be guided away from"),
        (ImageRequest(prompt=""), "it needs a small picture"),
    ):
        with pytest.raises(UserError, match=said):
            ours(model, request, small)


@pytest.mark.capability("one-line-errors")
def test_a_sampler_that_its_pipeline_would_paint_otherwise_with(tmp_path: Path) -> None:
    tiny_super_resolution(SCHEDULERS["ddim"]).save_pretrained(tmp_path / "theirs")
    model = load(tmp_path / "theirs", sampler="euler")
    assert ours(model, asking(2), photo((8, 8)))[1].std() > 10
    with pytest.raises(UserError, match="the sampler euler cannot be saved: LDMSuperResolutionPipeline scales"):
        save_model(model, tmp_path / "ours")


def test_small_pictures_that_do_not_fit() -> None:
    unet = UNet2D(
        UNet2DConfig(sample_size=8, in_channels=6, out_channels=3, channels=(8,), attention=(False,), groups=4)
    )
    x, context, t = torch.zeros(2, 3, 8, 8), torch.zeros(2, 0, 0), torch.zeros(2)
    assert unet(x, t, Condition(context, channels=torch.zeros(2, 3, 8, 8))).shape == x.shape
    with pytest.raises(ValueError, match=r"not \(2, 3, 8, 8\) with 4 of a condition"):
        unet(x, t, Condition(context, channels=torch.zeros(2, 4, 8, 8)))
    with pytest.raises(ValueError, match=r"channels are \(4, 8\) high and wide, the picture is \(8, 8\)"):
        unet(x, t, Condition(context, channels=torch.zeros(2, 3, 4, 8)))
