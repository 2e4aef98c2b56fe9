"""resolve(): a request with every None filled in, from the model, and nothing else changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from latentbrush import Canvas, GuidanceRequest, ImageRequest, ModelRequest, Sampling, UserError
from latentbrush.model import LatentDiffusion, ModelDefaults
from latentbrush.pipeline import resolve

DEFAULTS = ModelDefaults(steps=9, guidance=2.5, width=24, height=16)


@pytest.fixture(scope="module")
def model(make_model: Callable[..., LatentDiffusion]) -> LatentDiffusion:
    """Every default is another than the package's own."""
    return make_model(sampler="dpmpp_2m", defaults=DEFAULTS)


def nones(value: Any) -> int:
    if isinstance(value, dict):
        return sum(nones(v) for v in value.values())
    return int(value is None)


def test_every_none_is_filled_from_the_model(model: LatentDiffusion) -> None:
    empty = ImageRequest(prompt="a red cat")
    assert nones(empty.model_dump()) > 0
    resolved = resolve(model, empty)
    # No picture to start from or to read, no sizes or class to be told; its files say what it is; it decodes itself.
    unsaid: dict[str, Any] = dict.fromkeys(("label", "start", "control", "micro"), True)
    unsaid["model"] = {"prediction", "weights", "fast_decoder", "vae"}
    assert nones(resolved.model_dump(exclude=unsaid)) == 0
    assert resolved.canvas == Canvas(width=24, height=16)
    assert (resolved.sampling.sampler, resolved.sampling.steps) == ("dpmpp_2m", 9)
    assert resolved.guidance == GuidanceRequest(weight=2.5, negative="")
    assert (resolved.prompt, resolved.sampling.count, resolved.sampling.batch_size) == ("a red cat", 1, 16)
    assert nones(empty.model_dump()) > 0  # the request itself stays as it was


@pytest.mark.parametrize(
    "given",
    [
        ImageRequest(prompt="a"),
        ImageRequest(prompt="", canvas=Canvas(width=40)),
        ImageRequest(prompt="a", sampling=Sampling(seed=0, count=3)),
    ],
)
def test_resolving_twice_changes_nothing(model: LatentDiffusion, given: ImageRequest) -> None:
    once = resolve(model, given)
    assert resolve(model, once) == once


def test_what_is_said_is_kept(model: LatentDiffusion) -> None:
    """Also values that are false in Python: seed 0, weight 0, an empty prompt."""
    given = ImageRequest(
        prompt="",
        model=ModelRequest(name="./mine", dtype="float32"),
        canvas=Canvas(width=8, height=12),
        sampling=Sampling(sampler="euler", sigmas="karras", steps=1, seed=0, count=5, batch_size=2),
        guidance=GuidanceRequest(weight=0.0, negative="a dog"),
    )
    assert resolve(model, given) == given


def test_the_type_is_the_models_and_another_is_refused(model: LatentDiffusion) -> None:
    assert resolve(model, ImageRequest(prompt="a")).model.dtype == "float32"
    halves = ImageRequest(prompt="a", model=ModelRequest(dtype="float16"))
    with pytest.raises(UserError, match=r"dtype is float16, .* loaded as float32; load it with dtype='float16'"):
        resolve(model, halves)


@pytest.mark.parametrize(
    ("canvas", "size"), [(Canvas(width=40), (40, 16)), (Canvas(height=40), (24, 40)), (Canvas(), (24, 16))]
)
def test_each_side_has_its_own_default(model: LatentDiffusion, canvas: Canvas, size: tuple[int, int]) -> None:
    resolved = resolve(model, ImageRequest(prompt="a", canvas=canvas))
    assert (resolved.canvas.width, resolved.canvas.height) == size


def test_random_seeds_differ(model: LatentDiffusion) -> None:
    seeds = [resolve(model, ImageRequest(prompt="a")).sampling.seed for _ in range(8)]
    # Of 2^32, eight are all different but for one run in 150 million.
    assert len(set(seeds)) == 8
    assert all(seed is not None and 0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize("canvas", [Canvas(width=30), Canvas(height=30), Canvas(width=1, height=1)])
def test_a_size_that_f_does_not_divide_is_refused(model: LatentDiffusion, canvas: Canvas) -> None:
    with pytest.raises(UserError, match="multiples of 4 pixels"):
        resolve(model, ImageRequest(prompt="a", canvas=canvas))
