"""Every family of Stable Diffusion with every scheduler of diffusers that it takes: each step, and the pictures.

Three seeds, two numbers of steps and two of guidance. Both sides in float64, but for one scheduler, and
opened from the same folder; tolerances are those of test_pictures.py.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, Family
from published import FIXED, LEAST_STEPS, ORACLES
from test_pictures import PUBLISHED, SINGLE, compare
from tiny import tiny_scheduler

from latentbrush import ImageRequest, generate, load
from latentbrush.model import LatentDiffusion

pytestmark = [
    pytest.mark.slow,
    pytest.mark.capability("diffusers-folders", "more-solvers"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

# Its noise is a Brownian tree of another library, which nobody else draws alike: test_solvers.py gives both the same.
SCHEDULERS = {name: made for name, made in ORACLES.items() if name != "dpmpp_sde"}
STEPS = (7, 12)
# Begun from a guide, theirs takes the full list's first steps (pndm), or weights for a history it has not (lms).
NOT_FROM_A_GUIDE = ("pndm", "lms")
CASES = [
    pytest.param(family, sampler, id=f"{family.row}-{sampler}", marks=pytest.mark.compatible(family.row, "samplers"))
    for family in FAMILIES
    for sampler in SCHEDULERS
    if not (family.begins_late and sampler in NOT_FROM_A_GUIDE)
]
# diffusers' class draws its noise in float32 whatever the type, and numbers of another type are another stream.
IN_SINGLE = ("dpmpp_2m_sde",)
# That pipeline leaves PNDM's Runge-Kutta steps out, whatever the file says.
FORCED = {("sd1-inpainting", "pndm"): "plms"}
# The pipelines give every scheduler that knows an eta that of DDIM, 0, instead of its own default.
OWN = {"tcd": {"eta": 0.3}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Family -> what diffusers saved, made when it is first asked for."""
    return {}


def saved(family: Family, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    if family.row not in folders:
        folders[family.row] = tmp_path_factory.mktemp("theirs")
        family.make().save_pretrained(folders[family.row])
    return folders[family.row]


def exchange(folder: Path, sampler: str) -> None:
    """The folder's scheduler for that of another class, with the same schedule and prediction type."""
    index = json.loads((folder / "model_index.json").read_text())
    before = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    kind: Any = "sd2" if before["prediction_type"] == "v_prediction" else "sd1"
    made: type = SCHEDULERS[sampler]
    tiny_scheduler(kind, made, **FIXED.get(sampler, {})).save_pretrained(folder / "scheduler")
    index["scheduler"] = ["diffusers", made.__name__]
    (folder / "model_index.json").write_text(json.dumps(index))


def ours(model: LatentDiffusion, family: Family, request: ImageRequest) -> tuple[list[torch.Tensor], np.ndarray]:
    seen: list[torch.Tensor] = []

    def on_step(x: torch.Tensor, *_: Any) -> torch.Tensor:
        seen.append(x.clone())
        return x

    images = generate(model, request, on_step, family.pictures)
    return seen, np.stack([np.asarray(image.image) for image in images]).astype(int)


@pytest.mark.parametrize(("family", "sampler"), CASES)
def test_pictures(
    family: Family, sampler: str, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = saved(family, folders, tmp_path_factory)
    exchange(folder, sampler)
    dtype, tolerance = (torch.float32, SINGLE) if sampler in IN_SINGLE else (torch.float64, PUBLISHED)
    model, pipeline = load(folder, dtype=dtype), family.opened(folder, dtype)
    assert model.sampler == FORCED.get((family.row, sampler), sampler)
    assert type(pipeline.scheduler) is SCHEDULERS[sampler]
    own = OWN.get(sampler, {}) if "eta" in inspect.signature(pipeline.__call__).parameters else {}
    for steps in STEPS:
        for weight in family.weights:
            request = family.asking(max(steps, LEAST_STEPS.get(sampler, 1)), weight)
            compare(ours(model, family, request), family.theirs(pipeline, request, **own), tolerance)
