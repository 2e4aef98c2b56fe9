"""generate(): how often the networks are asked, what `on_step` may do, what is returned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from watching import Record

from latentbrush import Canvas, GuidanceRequest, ImageRequest, Sampling, UserError, generate
from latentbrush.diffusion import Denoised, Level
from latentbrush.model import LatentDiffusion
from latentbrush.pipeline import paint, resolve, to_image

STEPS = 4


def request(weight: float = 7.5, prompt: str = "a red cat", negative: str = "", **sampling: Any) -> ImageRequest:
    return ImageRequest(
        prompt=prompt,
        canvas=Canvas(width=16, height=24),
        sampling=Sampling(**{"steps": STEPS, "seed": 3, **sampling}),
        guidance=GuidanceRequest(weight=weight, negative=negative),
    )


def pixels(model: LatentDiffusion, wanted: ImageRequest, **options: Any) -> np.ndarray:
    return np.asarray(generate(model, wanted, **options)[0].image)


@pytest.mark.capability("one-call-without-guidance")
@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpmpp_2m"])
@pytest.mark.parametrize(("weight", "branches"), [(1.0, 1), (7.5, 2), (0.0, 2), (-1.0, 2)])
def test_network_calls(
    deterministic: LatentDiffusion, record: Record, sampler: str, weight: float, branches: int
) -> None:
    """One call a step: of B without guidance, of 2B with it."""
    generate(deterministic, request(weight, sampler=sampler, count=3, batch_size=2))
    assert record.batches() == [2 * branches] * STEPS + [1 * branches] * STEPS


def test_without_guidance_the_negative_prompt_is_not_read(deterministic: LatentDiffusion, record: Record) -> None:
    first = pixels(deterministic, request(1.0, negative="a dog"))
    assert record.prompts == [["a red cat"]]
    assert np.array_equal(first, pixels(deterministic, request(1.0)))


def test_text_tower_calls(deterministic: LatentDiffusion, record: Record) -> None:
    """At most once a batch and branch, never once a step."""
    generate(deterministic, request(negative="a dog", count=3, batch_size=2))
    assert len(record.prompts) <= 4
    assert {prompt for prompts in record.prompts for prompt in prompts} == {"a red cat", "a dog"}


@pytest.mark.capability("classifier-free-guidance")
def test_prompt_negative_and_weight_change_the_picture(deterministic: LatentDiffusion) -> None:
    variants = [
        request(1.0),
        request(1.0, prompt="a blue dog"),
        request(),
        request(3.0),
        request(negative="a blue dog"),
        request(sampler="dpmpp_2m"),
        request(steps=5),
    ]
    assert len({pixels(deterministic, variant).tobytes() for variant in variants}) == len(variants)


@pytest.mark.capability("classifier-free-guidance")
def test_guidance_by_the_prompt_itself_is_no_guidance(deterministic: LatentDiffusion) -> None:
    """u + w (c - u) = c where negative and prompt agree: tells the branches' order and formula apart from none."""
    plain, guided = (pixels(deterministic, request(w, negative="a red cat")).astype(int) for w in (1.0, 7.5))
    assert int(np.abs(plain - guided).max()) <= 1


@pytest.mark.capability("classifier-free-guidance")
def test_weight_zero_paints_the_negative_prompt(deterministic: LatentDiffusion) -> None:
    zero = pixels(deterministic, request(0.0, negative="a blue dog")).astype(int)
    negative = pixels(deterministic, request(1.0, prompt="a blue dog")).astype(int)
    assert int(np.abs(zero - negative).max()) <= 1


@pytest.mark.capability("on-step")
def test_on_step_follows_every_network_call(deterministic: LatentDiffusion, record: Record) -> None:
    calls_before = []

    def on_step(x: Tensor, level: Level, denoised: Denoised) -> Tensor:
        calls_before.append(len(record.inputs))
        assert denoised.x0.shape == denoised.raw.shape == x.shape
        return record.on_step(x, level, denoised)

    generate(deterministic, request(count=3, batch_size=2), on_step)
    assert calls_before == list(range(1, 2 * STEPS + 1))
    assert [tuple(x.shape) for x in record.latents] == [(2, 4, 6, 4)] * STEPS + [(1, 4, 6, 4)] * STEPS
    finished = [level.t is None for level in record.levels]
    assert finished == [False, False, False, True] * 2
    # The level is that of the next call, whose input is x at unit variance.
    for x, level, seen in zip(record.latents[: STEPS - 1], record.levels, record.inputs[1:STEPS], strict=False):
        assert torch.allclose(torch.cat([x / level.norm] * 2), seen, rtol=0, atol=1e-6)


@pytest.mark.capability("on-step")
def test_what_on_step_returns_goes_on(deterministic: LatentDiffusion, record: Record) -> None:
    given = torch.full((1, 4, 6, 4), 0.25)
    pixels(deterministic, request(1.0), on_step=lambda x, level, denoised: given)
    for seen in record.inputs[1:]:
        assert torch.allclose(seen, given, rtol=0, atol=1e-6)


@pytest.mark.capability("on-step")
def test_what_on_step_returns_last_is_decoded(deterministic: LatentDiffusion) -> None:
    given = torch.linspace(-1, 1, 96).reshape(1, 4, 6, 4)
    found = pixels(deterministic, request(), on_step=lambda x, level, denoised: given)
    with torch.inference_mode():
        expected = to_image(deterministic.autoencoder.decode(given)[0])
    assert np.array_equal(found, np.asarray(expected))


class CancelledError(Exception):
    pass


@pytest.mark.capability("on-step")
def test_raising_in_on_step_cancels(deterministic: LatentDiffusion, record: Record) -> None:
    """The exception comes through as it is, at once, and leaves nothing behind: the next request is served."""

    def cancel(x: Tensor, level: Level, denoised: Denoised) -> Tensor:
        if len(record.inputs) == STEPS + 2:  # in the second batch
            raise CancelledError
        return x

    images = None
    with pytest.raises(CancelledError):
        images = generate(deterministic, request(count=4, batch_size=2), cancel)
    assert images is None
    assert len(record.inputs) == STEPS + 2
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert len(generate(deterministic, request())) == 1


def test_pictures_carry_the_request_as_served(deterministic: LatentDiffusion) -> None:
    """Nobody but the seed that was drawn knows how to paint an unseeded picture again."""
    unseeded = ImageRequest(prompt="a red cat", sampling=Sampling(steps=2, count=2))
    images = generate(deterministic, unseeded)
    served = images[0].request
    assert images[1].request == served
    assert served == resolve(deterministic, served)
    assert [image.seed for image in images] == [served.sampling.seed, served.sampling.seed + 1]
    again = generate(deterministic, ImageRequest.model_validate_json(served.model_dump_json()))
    assert [image.image.tobytes() for image in again] == [image.image.tobytes() for image in images]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (ImageRequest(prompt="", canvas=Canvas(width=18)), "18x32.*multiples of 4"),
        (ImageRequest(prompt="", canvas=Canvas(height=2)), "32x2.*multiples of 4"),
        (ImageRequest(prompt="", sampling=Sampling(sampler="dimm")), "'dimm' is unknown; choose one of ddim"),
        (ImageRequest(prompt="", sampling=Sampling(steps=1001)), "1001 steps.*1 to 1000"),
        (ImageRequest(prompt="", sampling=Sampling(seed=2**63 - 1, count=2)), "2 pictures"),
    ],
)
def test_refused_before_any_network_call(
    deterministic: LatentDiffusion, record: Record, wanted: ImageRequest, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        generate(deterministic, wanted)
    assert record.inputs == []


def test_largest_seed(deterministic: LatentDiffusion) -> None:
    [image] = generate(deterministic, request(seed=2**63 - 1, steps=1))
    assert image.seed == 2**63 - 1


@pytest.mark.capability("large-canvas")
@pytest.mark.parametrize(("width", "height"), [(16, 40), (20, 12), (4, 4)])
def test_sizes(deterministic: LatentDiffusion, width: int, height: int) -> None:
    """Every multiple of f, also where the UNet's levels do not divide it."""
    wanted = ImageRequest(prompt="", canvas=Canvas(width=width, height=height), sampling=Sampling(steps=1, seed=0))
    [image] = generate(deterministic, wanted)
    assert image.image.size == (width, height)
    assert image.image.mode == "RGB"


def test_paint_takes_a_prompt_for_every_picture(deterministic: LatentDiffusion) -> None:
    """As previews in training do: picture i is of prompts[i]."""
    resolved = resolve(deterministic, request())
    both = paint(deterministic, ["a red cat", "a blue dog"], [3, 3], resolved)
    swapped = paint(deterministic, ["a blue dog", "a red cat"], [3, 3], resolved)
    assert both.shape == (2, 3, 24, 16)
    assert torch.equal(both, swapped.flip(0))
    assert not torch.equal(both[0], both[1])


def test_paint_refuses_an_unresolved_request(deterministic: LatentDiffusion) -> None:
    with pytest.raises(ValueError, match="resolve"):
        paint(deterministic, ["a"], [0], ImageRequest(prompt="a"))


def test_to_image_clamps_and_rounds() -> None:
    """-1 is black, 1 white, beyond is cut; in between to the nearest of 255 steps."""
    values = torch.tensor([-7.0, -1.0, -1.0 + 0.9 / 255, -1.0 + 1.1 / 255, 0.2, 1.0, 3.0])
    image = np.asarray(to_image(values.repeat(3, 1, 1)))
    assert image.shape == (1, 7, 3)
    assert image[0, :, 0].tolist() == [0, 0, 0, 1, 153, 255, 255]
    channels = to_image(torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1))
    assert channels.getpixel((0, 0)) == (0, 128, 255)
