"""Bits of pictures through a first stage, and the way from noise to picture as a code."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from latentbrush.diffusion import Bound, Denoiser, Level, PictureNoise, Schedule, bound_levels, variational_bound
from latentbrush.errors import UserError
from latentbrush.evaluation.bits import (
    best_deviation,
    join_bounds,
    picture_bits,
    rate_distortion,
    stage_nats,
)
from latentbrush.nn import Posterior

SHAPE = (3, 4, 4)


def bound_of(x0: Tensor, spread: float = 1.0, seed: int = 0, n_steps: int = 12) -> Bound:
    """By the denoiser that knows that x0 is N(0, spread^2)."""

    def predict(x: Tensor, level: Level) -> Tensor:
        alpha, sigma = level.floats()
        return spread**2 * alpha * x / (alpha**2 * spread**2 + sigma**2)

    noise = PictureNoise(range(seed, seed + len(x0)), SHAPE, torch.float64)
    levels = bound_levels(Schedule("linear", 1e-4, 0.02, 1000), n_steps)
    return variational_bound(Denoiser(predict, "sample"), x0, levels, noise, decoder="density")


def drawn(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.capability("rate-distortion")
def test_the_curve_is_the_gaussians_own() -> None:
    """Of unit Gaussian data, x at a level tells log2(1 / sigma) bits and leaves an error of sigma."""
    found = rate_distortion(bound_of(drawn(300)), pixels=False)
    sigma = torch.tensor([float(level.sigma) for level in bound_of(drawn(1)).levels], dtype=torch.float64)
    torch.testing.assert_close(found.distortion, sigma, rtol=0.03, atol=0)
    torch.testing.assert_close(found.rate, -sigma.log2(), rtol=0.05, atol=0.01)
    assert (found.rate.diff() > 0).all()
    assert (found.distortion.diff()[3:] < 0).all()  # before, they fall by less than 300 pictures tell
    assert found.times[0] == 999
    assert found.times[-1] == 0
    assert rate_distortion(bound_of(drawn(2))).distortion[3] == pytest.approx(
        127.5 * float(rate_distortion(bound_of(drawn(2)), pixels=False).distortion[3])
    )
    assert found.to_json()["rate"] == found.rate.tolist()


@pytest.mark.capability("bits-per-dimension")
def test_batches_are_one() -> None:
    x0 = drawn(5)
    whole, parts = bound_of(x0), join_bounds([bound_of(x0[:2]), bound_of(x0[2:], seed=2)])
    torch.testing.assert_close(parts.bits, whole.bits)
    torch.testing.assert_close(parts.errors, whole.errors)
    with pytest.raises(ValueError, match="unlike levels"):
        join_bounds([bound_of(x0[:2]), bound_of(x0[2:], n_steps=9)])
    with pytest.raises(UserError, match="no picture to bound"):
        join_bounds([])


@pytest.mark.capability("bits-per-dimension")
def test_pictures_through_a_linear_first_stage() -> None:
    """x = z + noise, both Gaussian, has a likelihood of its own, which the exact posterior's bound attains.

    z is N(0, 1), x given z is N(z, s^2) in bytes so much finer than s that their mass is density times width.
    """
    s, count = 0.1, 200
    z = 0.3 * drawn(count)
    pictures = ((z + s * drawn(count, 1)).clamp(-0.99, 0.99) * 127.5 + 127.5).round().to(torch.uint8)
    x = pictures.double() / 127.5 - 1
    within, left = 0.09 / (0.09 + s**2), 0.09 * s**2 / (0.09 + s**2)
    posterior = Posterior(within * x, torch.full_like(x, math.log(left)))
    draw = posterior.at(drawn(count, 2))
    stage = stage_nats(posterior, draw, pictures, s)
    assert stage.entropy[0] / 48 == pytest.approx(0.5 * math.log(2 * math.pi * math.e * left))
    # Latents by the exact density in the place of a diffusion's bound, so that only the stage is tested.
    density = 0.5 * (draw.square() / 0.09 + math.log(2 * math.pi * 0.09)).flatten(1).sum(1)
    nothing = torch.zeros(count, 1, dtype=torch.float64)
    latents = Bound(density, nothing, nothing[:, 0], nothing, (Level(1.0, 1.0, 0.0),), 48)
    found = picture_bits(latents, stage)
    variance = 0.09 + s**2
    own = 0.5 * (x.square() / variance + math.log(2 * math.pi * variance)).flatten(1).mean(1) - math.log(2 / 255)
    # One draw of z each: the mean over 200 pictures of 48 numbers.
    assert float(found.mean()) == pytest.approx(float(own.mean()) / math.log(2), abs=0.02)
    told = stage.to_json()
    assert told["reconstruction_bits"] == pytest.approx(float(stage.rebuilt.mean()) / (48 * math.log(2)))


@pytest.mark.capability("bits-per-dimension")
def test_the_best_deviation_makes_the_least_bits() -> None:
    pictures = torch.randint(30, 220, (4, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    rebuilt = pictures.double() / 127.5 - 1 + 0.05 * drawn(4)
    posterior = Posterior(drawn(4), torch.zeros(4, *SHAPE, dtype=torch.float64))
    best = best_deviation(rebuilt, pictures)
    assert best == pytest.approx(0.05, rel=0.2)
    nats = [float(stage_nats(posterior, rebuilt, pictures, best * by).rebuilt.mean()) for by in (0.7, 1.0, 1.4)]
    assert nats[1] == min(nats)
    assert best_deviation(pictures.double() / 127.5 - 1, pictures) == 0.25 / 127.5


@pytest.mark.capability("bits-per-dimension")
def test_what_has_no_bound_in_pixels_is_refused() -> None:
    pictures = torch.zeros(2, *SHAPE, dtype=torch.uint8)
    with pytest.raises(UserError, match="no posterior"):
        stage_nats(Posterior.point(drawn(2)), drawn(2), pictures, 0.1)
    with pytest.raises(UserError, match=r"deviation of 0\.0"):
        stage_nats(Posterior(drawn(2), drawn(2)), drawn(2), pictures, 0.0)
    with pytest.raises(ValueError, match="rebuilt"):
        stage_nats(Posterior(drawn(2), drawn(2)), drawn(3), pictures, 0.1)
