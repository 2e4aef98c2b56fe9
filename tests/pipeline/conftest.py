"""A tiny model under observation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from watching import Record

from latentbrush import pipeline
from latentbrush.diffusion import PictureNoise
from latentbrush.model import LatentDiffusion


@pytest.fixture(scope="session")
def deterministic(make_model: Callable[..., LatentDiffusion]) -> LatentDiffusion:
    """DDIM with eta 0."""
    return make_model()


@pytest.fixture(scope="session")
def stochastic(make_model: Callable[..., LatentDiffusion]) -> LatentDiffusion:
    """DDIM with eta 1: noise is drawn at every step but the last, which ends at abar 1."""
    return make_model(plan_options={"spacing": "leading", "steps_offset": 1, "eta": 1.0})


@pytest.fixture
def record(
    deterministic: LatentDiffusion, stochastic: LatentDiffusion, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Record]:
    """Watches both models for one test, from outside: hooks on the networks, and a noise that is written down."""
    watched = Record()

    class Noise(PictureNoise):
        def __init__(self, seeds: Any, *args: Any) -> None:
            super().__init__(seeds, *args)
            self.seeds = list(seeds)

        def __call__(self, channels: int | None = None) -> Tensor:
            draw = super().__call__(channels)
            watched.draws.append((self.seeds, draw.clone()))
            return draw

    monkeypatch.setattr(pipeline, "PictureNoise", Noise)
    hooks = []
    for model in (deterministic, stochastic):
        hooks.append(model.unet.register_forward_pre_hook(lambda _, args: watched.inputs.append(args[0].clone())))
        hooks.append(model.text.register_forward_pre_hook(lambda _, args: watched.prompts.append(list(args[0]))))
    yield watched
    for hook in hooks:
        hook.remove()


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Bit-equality is promised for one number of threads."""
    assert torch.get_num_threads() == 1
