"""A picture depends on its seed: not on its batch, its place there, or what is painted beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from watching import Record

from latentbrush import Canvas, GuidanceRequest, ImageRequest, Sampling, generate
from latentbrush.model import LatentDiffusion

STEPS = 3
# What the networks' kernels round differently for other batch shapes (DESIGN, Invariants). Measured on the
# tiny model, whose latents reach 17: 5e-6 without guidance, 4e-5 and one step of a pixel with 7.5.
LATENTS = 1e-4
PIXELS = 1


def request(seed: int, count: int = 1, batch_size: int = 16, weight: float = 7.5, **sampling: Any) -> ImageRequest:
    """Not square, so that height and width cannot be mistaken.

    Every feature map of a picture holds a multiple of 64 numbers, as those of real models do: torch's elementwise
    kernels compute the numbers that fill no vector, at the end of a batch, by other instructions, whose exp rounds
    otherwise (seen with 48 numbers a picture).
    """
    return ImageRequest(
        prompt="a red cat",
        canvas=Canvas(width=32, height=16),
        sampling=Sampling(steps=STEPS, seed=seed, count=count, batch_size=batch_size, **sampling),
        guidance=GuidanceRequest(weight=weight, negative="a dog"),
    )


def expected_draws(seed: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """The documented stream of a seed: a CPU generator's randn of (1, c, h, w), one after the other."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return [torch.randn((1, 4, 4, 8), generator=generator, dtype=dtype)[0] for _ in range(STEPS)]


def pixels(image: Any) -> np.ndarray:
    return np.asarray(image.image).astype(int)


@pytest.mark.capability("batch-invariance")
@pytest.mark.parametrize(("first", "count", "batch_size"), [(5, 1, 1), (5, 3, 3), (3, 3, 3), (4, 4, 2), (1, 5, 4)])
def test_every_draw_of_a_seed_is_the_same_in_any_company(
    stochastic: LatentDiffusion, record: Record, first: int, count: int, batch_size: int
) -> None:
    generate(stochastic, request(first, count, batch_size))
    draws = record.of_seed(5)
    assert len(draws) == STEPS  # the start, then one a step; the last step, to a clean picture, needs none
    for draw, expected in zip(draws, expected_draws(5), strict=True):
        assert torch.equal(draw, expected)


def test_the_first_latents_are_the_draw(deterministic: LatentDiffusion, record: Record) -> None:
    """What the network sees first is the noise itself, bit by bit: DDIM starts at unit variance."""
    generate(deterministic, request(7, count=3, batch_size=2, weight=1.0))
    expected = [expected_draws(seed)[0] for seed in (7, 8, 9)]
    assert torch.equal(record.inputs[0], torch.stack(expected[:2]))
    assert torch.equal(record.inputs[STEPS], torch.stack(expected[2:]))


def test_a_deterministic_sampler_draws_the_start_only(deterministic: LatentDiffusion, record: Record) -> None:
    generate(deterministic, request(7, count=3, batch_size=2))
    assert [seeds for seeds, _ in record.draws] == [[7, 8], [9]]


def test_draws_are_made_in_the_models_dtype(make_model: Any, record: Record) -> None:
    """A float64 draw is another stream, no rounded float32 one."""
    generate(make_model().to(dtype=torch.float64), request(7))
    assert torch.equal(record.of_seed(7)[0], expected_draws(7, torch.float64)[0])


@pytest.mark.capability("batch-invariance")
@pytest.mark.parametrize("weight", [1.0, 7.5])
@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m"])
def test_position_changes_no_bit(
    deterministic: LatentDiffusion, stochastic: LatentDiffusion, record: Record, weight: float, sampler: str
) -> None:
    """At equal batch shape, the picture of a seed is bit-equal at every place."""
    model = stochastic if sampler == "ddim" else deterministic
    found, latents = [], []
    for first in (10, 11, 12):  # seed 12 is last, in the middle, first
        images = generate(model, request(first, count=3, weight=weight, sampler=sampler), record.on_step)
        place = 12 - first
        found.append(pixels(images[place]))
        latents.append(torch.stack([x[place] for x in record.latents[-STEPS:]]))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
    assert torch.equal(latents[0], latents[1])
    assert torch.equal(latents[0], latents[2])


@pytest.mark.capability("batch-invariance")
@pytest.mark.parametrize("weight", [1.0, 7.5])
@pytest.mark.parametrize("batch_size", [5, 2, 1])
def test_picture_i_is_the_picture_of_seed_plus_i(
    stochastic: LatentDiffusion, record: Record, weight: float, batch_size: int
) -> None:
    together = generate(stochastic, request(20, count=5, batch_size=batch_size, weight=weight), record.on_step)
    batches = [record.latents[i] for i in range(STEPS - 1, len(record.latents), STEPS)]
    assert [len(batch) for batch in batches] == {5: [5], 2: [2, 2, 1], 1: [1] * 5}[batch_size]
    finished = torch.cat(batches)
    assert [image.seed for image in together] == [20, 21, 22, 23, 24]
    assert [image.index for image in together] == [0, 1, 2, 3, 4]
    for i, image in enumerate(together):
        [alone] = generate(stochastic, request(20 + i, weight=weight), record.on_step)
        if batch_size == 1:
            assert torch.equal(finished[i], record.latents[-1][0])
            assert np.array_equal(pixels(image), pixels(alone))
        assert float((finished[i] - record.latents[-1][0]).abs().max()) <= LATENTS
        assert int(np.abs(pixels(image) - pixels(alone)).max()) <= PIXELS
    # The comparison above would hold for equal pictures, too: they are not.
    assert len({image.image.tobytes() for image in together}) == 5


@pytest.mark.capability("batch-invariance")
def test_the_same_request_twice_is_the_same_to_the_bit(stochastic: LatentDiffusion) -> None:
    first, second = (generate(stochastic, request(1, count=3, batch_size=2)) for _ in range(2))
    assert [image.image.tobytes() for image in first] == [image.image.tobytes() for image in second]
