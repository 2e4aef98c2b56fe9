"""Which pipelines clip x0 as the scheduler's file says: all but two of Stable Diffusion's, as in diffusers.

Both sides in float64; what differs is the schedulers' float32, as in test_pictures.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler, LCMScheduler
from test_pictures import PUBLISHED, compare, ours
from test_xl import asking, opened, theirs
from tiny import tiny_pipeline
from tiny_xl import tiny_xl_pipeline

from latentbrush import load
from latentbrush.formats import save_model

pytestmark = [
    pytest.mark.capability("stable-diffusion-xl"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

CONFIG = "scheduler/scheduler_config.json"
CASES: dict[str, tuple[type, dict[str, Any], float | None]] = {
    "ddpm": (DDPMScheduler, {}, 1.0),
    "ddpm-range": (DDPMScheduler, {"clip_sample_range": 0.6}, 0.6),
    "ddpm-off": (DDPMScheduler, {"clip_sample": False}, None),
    "ddim": (DDIMScheduler, {"clip_sample": True}, 1.0),
    "heun": (HeunDiscreteScheduler, {}, None),
    "lcm": (LCMScheduler, {"clip_sample": True}, 1.0),
}


def edited(folder: Path, name: str, **changes: Any) -> None:
    """None takes a field away."""
    content = json.loads((folder / name).read_text()) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    (folder / name).write_text(json.dumps(kept))


@pytest.mark.parametrize("case", CASES)
def test_as_the_file_says(case: str, tmp_path: Path) -> None:
    scheduler, changes, clip = CASES[case]
    tiny_xl_pipeline("base", scheduler, **changes).save_pretrained(tmp_path / "theirs")
    model, request = load(tmp_path / "theirs", dtype=torch.float64), asking()
    assert model.clip == clip
    expected = theirs(opened(tmp_path / "theirs"), request)
    compare(ours(model, request), expected, PUBLISHED)
    save_model(model, tmp_path / "ours")
    written, read = json.loads((tmp_path / "ours" / CONFIG).read_text()), load(tmp_path / "ours")
    assert (written.get("clip_sample", False), read.clip) == (clip is not None, clip)
    compare(ours(model, request), theirs(opened(tmp_path / "ours"), request), PUBLISHED)
    if clip is not None:  # else nothing would be tested
        edited(tmp_path / "theirs", CONFIG, clip_sample=False)
        assert np.abs(theirs(opened(tmp_path / "theirs"), request)[1] - expected[1]).max() > 1


def test_where_nothing_is_said_the_class_decides(tmp_path: Path) -> None:
    tiny_xl_pipeline("base", DDPMScheduler).save_pretrained(tmp_path)
    edited(tmp_path, CONFIG, clip_sample=None, clip_sample_range=None)
    model, request = load(tmp_path, dtype=torch.float64), asking()
    assert model.clip == 1.0
    compare(ours(model, request), theirs(opened(tmp_path), request), PUBLISHED)
    assert load(tmp_path, sampler="ddpm").clip == 1.0
    assert load(tmp_path, sampler="ddim").clip is None


def test_another_sampler_does_not_begin_to_clip(tmp_path: Path) -> None:
    """Though diffusers' class would, made from a file that says nothing of it."""
    tiny_xl_pipeline("base", EulerDiscreteScheduler).save_pretrained(tmp_path)
    model, pipeline, request = load(tmp_path, sampler="ddim", dtype=torch.float64), opened(tmp_path), asking()
    assert model.clip is None
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    compare(ours(model, request), theirs(pipeline, request), PUBLISHED)
    edited(tmp_path, CONFIG, clip_sample=True)
    assert load(tmp_path, sampler="ddim").clip is None  # Euler's class does not know the field


def test_another_sampler_goes_on_clipping(tmp_path: Path) -> None:
    tiny_xl_pipeline("base", DDPMScheduler).save_pretrained(tmp_path)
    assert [load(tmp_path, sampler=name).clip for name in ("ddim", "lcm", "euler")] == [1.0, 1.0, None]


@pytest.mark.parametrize(
    "name",
    [
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionInstructPix2PixPipeline",
    ],
)
def test_each_pipeline_as_in_diffusers(name: str, tmp_path: Path) -> None:
    pipeline = tiny_pipeline("sd1", DDPMScheduler)
    pipeline.scheduler.register_to_config(clip_sample=True)  # which it was not, once in that pipeline
    pipeline.save_pretrained(tmp_path)
    edited(tmp_path, "model_index.json", _class_name=name)
    known = getattr(diffusers, name).from_pretrained(tmp_path, safety_checker=None).scheduler.config.clip_sample
    assert (load(tmp_path).clip is not None) == known
