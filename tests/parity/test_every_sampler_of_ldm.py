"""LDM's and DDPM's own pipelines with every scheduler of diffusers that they paint the same with each time: each step,
and the pictures.

Three seeds and two numbers of steps, both sides in float64, but for one scheduler, and opened from the same folder;
tolerances are those of test_pictures.py. LDM's pipelines hand their scheduler no generator, so that what draws noise
draws it from torch's own, which nobody else's pictures follow; DDPM's hands it to every scheduler, also to those that
take none and fail. Of what starts from much noise LDMPipeline alone knows the scale.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_ldm_text
import test_pictures
import test_super_resolution
import test_upscaler
import test_wordless_pictures
import torch
from diffusers import DDPMPipeline, LDMPipeline
from published import DRAWING, FIXED, LEAST_STEPS, ORACLES
from test_pictures import PUBLISHED, SINGLE, compare
from test_upscaler import photo
from tiny import tiny_scheduler
from tiny_ldm import tiny_ldm
from tiny_wordless import save_wordless
from torch import Tensor

from latentbrush import load
from latentbrush.formats.pipelines import FROM_MUCH_NOISE, FROM_UNIT_NOISE
from latentbrush.model import LatentDiffusion

pytestmark = [
    pytest.mark.slow,
    pytest.mark.capability("diffusers-folders", "more-solvers"),
    pytest.mark.filterwarnings("ignore"),
]

STEPS = (7, 12)
Painted = tuple[list[Tensor], np.ndarray]


@dataclass(frozen=True)
class Family:
    """`save`: a folder with such a scheduler; `both`: what the two sides paint in so many steps."""

    row: str
    samplers: tuple[str, ...]
    save: Callable[[Path, Any], Any]
    both: Callable[[LatentDiffusion, Path, int, torch.dtype], tuple[Painted, Painted]]


def of_text(model: LatentDiffusion, folder: Path, steps: int, dtype: torch.dtype) -> tuple[Painted, Painted]:
    pipeline = test_wordless_pictures.opened(folder, dtype)
    request = test_ldm_text.wanted(steps, 6.0)
    return test_pictures.ours(model, request), test_ldm_text.theirs(pipeline, request)


def of_no_words(model: LatentDiffusion, folder: Path, steps: int, dtype: torch.dtype) -> tuple[Painted, Painted]:
    pipeline = test_wordless_pictures.opened(folder, dtype)
    found = test_pictures.ours(model, test_wordless_pictures.wanted(steps))
    return found, test_wordless_pictures.theirs(pipeline, steps)


def of_small_pictures(model: LatentDiffusion, folder: Path, steps: int, dtype: torch.dtype) -> tuple[Painted, Painted]:
    pipeline, request, small = test_super_resolution.opened(folder), test_super_resolution.asking(steps), photo((8, 8))
    return test_upscaler.ours(model, request, small), test_super_resolution.theirs(pipeline, request, small)


SILENT = tuple(name for name in ORACLES if name == "ddim" or name not in (*DRAWING, "dpmpp_sde"))
FROM_ONE = tuple(name for name in SILENT if name not in FROM_MUCH_NOISE)
FAMILIES = [
    Family(
        "ldm-text",
        FROM_ONE,
        lambda folder, scheduler: swapped(tiny_ldm(), scheduler).save_pretrained(folder),
        of_text,
    ),
    Family(
        "ldm-unconditional",
        SILENT,
        lambda folder, scheduler: save_wordless(folder, LDMPipeline, scheduler),
        of_no_words,
    ),
    Family(
        "ldm-upscaling",
        FROM_ONE,
        lambda folder, scheduler: test_super_resolution.tiny_super_resolution(scheduler).save_pretrained(folder),
        of_small_pictures,
    ),
    Family(
        "ddpm",
        FROM_UNIT_NOISE,
        lambda folder, scheduler: save_wordless(folder, DDPMPipeline, scheduler),
        of_no_words,
    ),
]
CASES = [
    pytest.param(family, sampler, id=f"{family.row}-{sampler}", marks=pytest.mark.compatible(family.row, "samplers"))
    for family in FAMILIES
    for sampler in family.samplers
]
# diffusers' class draws its noise in float32 whatever the type, and numbers of another type are another stream; and
# UniPC's fails where torch makes float64 by default, as it must for LDMPipeline, which names no type for its noise.
IN_SINGLE = (("ddpm", "dpmpp_2m_sde"), ("ldm-unconditional", "unipc"))


def swapped(pipeline: Any, scheduler: Any) -> Any:
    pipeline.register_modules(scheduler=scheduler)
    return pipeline


def made(sampler: str) -> Any:
    """LDM's pipeline asks for the first level before it sets its times, which leading spacing starts lower than."""
    oracle: type = ORACLES[sampler]
    known = "timestep_spacing" in inspect.signature(oracle).parameters
    spacing = {"timestep_spacing": "linspace"} if sampler in FROM_MUCH_NOISE and known else {}
    return tiny_scheduler("sd1", oracle, **FIXED.get(sampler, {}), **spacing)


@pytest.mark.parametrize(("family", "sampler"), CASES)
def test_as_diffusers(family: Family, sampler: str, tmp_path: Path) -> None:
    family.save(tmp_path, made(sampler))
    dtype, tolerance = (torch.float32, SINGLE) if (family.row, sampler) in IN_SINGLE else (torch.float64, PUBLISHED)
    model = load(tmp_path, dtype=dtype)
    assert model.sampler == sampler
    for steps in STEPS:
        found, expected = family.both(model, tmp_path, max(steps, LEAST_STEPS.get(sampler, 1)), dtype)
        compare(found, expected, tolerance)
