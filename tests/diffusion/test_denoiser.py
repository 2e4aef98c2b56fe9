"""The contract between networks and samplers, for every prediction and every kind of level."""

import math

import pytest
import torch

from latentbrush.diffusion import Denoiser, Level, Schedule
from latentbrush.errors import UserError

pytestmark = pytest.mark.capability("prediction-types")

LEVELS = {
    "preserving": Level(0.6, 0.8, 500.0),
    "nearly clean": Level(math.sqrt(1 - 1e-6), 1e-3, 0.0),
    "nearly noise": Level(1e-3, math.sqrt(1 - 1e-6), 998.0),
    "noise": Level(0.0, 1.0, 999.0),
    "exploding": Level(1.0, 14.6, 999.0),
    "exploding far": Level(1.0, 4096.0, 999.0),
    "flow": Level(0.3, 0.7, 700.0),
}
PREDICTIONS = ["epsilon", "v_prediction", "sample"]


def pair(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 2, 3, 4, 5, generator=generator, dtype=torch.float64).to(dtype).unbind(0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", LEVELS)
def test_a_perfect_network_is_read_as_the_truth(prediction, name):
    level = LEVELS[name]
    x0, eps = pair()
    denoiser = Denoiser(lambda x, at: denoiser.target(x0, eps, at), prediction)
    x = level.mix(x0, eps)
    if prediction == "epsilon" and level.alpha == 0:
        with pytest.raises(ValueError, match="alpha = 0"):
            denoiser(x, level)
        return
    seen = denoiser(x, level)
    # A few roundings of 1e-16; x0 from eps loses sigma / alpha, eps from x0 alpha / sigma, each 4096 at most.
    torch.testing.assert_close(seen.x0, x0, rtol=0, atol=1e-11)
    torch.testing.assert_close(seen.eps, eps, rtol=0, atol=1e-11)
    assert torch.equal(seen.raw, denoiser.target(x0, eps, level))


@pytest.mark.parametrize("name", LEVELS)
def test_v_is_well_conditioned_everywhere_in_float32(name):
    """v gives both x0 and eps to rounding at every level. (One computed from the other would not.)"""
    level = LEVELS[name]
    x0, eps = pair(torch.float32)
    denoiser = Denoiser(lambda x, at: denoiser.target(x0, eps, at), "v_prediction")
    seen = denoiser(level.mix(x0, eps), level)
    assert seen.x0.dtype == seen.eps.dtype == torch.float32
    # values up to 4, four roundings of 6e-8 each, of x0 after sigma eps was added to it
    torch.testing.assert_close(seen.x0, x0, rtol=0, atol=4e-6)
    torch.testing.assert_close(seen.eps, eps, rtol=0, atol=4e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", [name for name in LEVELS if name != "noise"])
def test_x0_and_eps_make_up_x_whatever_the_network_says(prediction, name):
    level = LEVELS[name]
    x, raw = pair()
    seen = Denoiser(lambda *_: raw, prediction)(x, level)
    # x0 and eps may be 4096 times x before they cancel
    torch.testing.assert_close(level.mix(seen.x0, seen.eps), x, rtol=0, atol=1e-11)


def test_v_is_that_of_the_paper():
    """v = alpha eps - sigma x0 where alpha^2 + sigma^2 = 1; -x0 at zero SNR, eps at zero noise."""
    x0, eps = pair()
    denoiser = Denoiser(lambda x, level: x, "v_prediction")
    # one rounding of each product, of the norm and of the sum
    torch.testing.assert_close(
        denoiser.target(x0, eps, LEVELS["preserving"]), 0.6 * eps - 0.8 * x0, rtol=1e-14, atol=1e-15
    )
    assert torch.equal(denoiser.target(x0, eps, Level(0.0, 1.0)), -x0)
    assert torch.equal(denoiser.target(x0, eps, Level(1.0, 0.0)), eps)


@pytest.mark.parametrize("name", LEVELS)
def test_the_network_sees_unit_variance(name):
    level, seen = LEVELS[name], []
    generator = torch.Generator().manual_seed(1)
    x0, eps = torch.randn(2, 1, 1, 200, 200, generator=generator, dtype=torch.float64)

    def network(x, at):
        seen.append((x, at))
        return x

    Denoiser(network, "v_prediction")(level.mix(x0, eps), level)
    (x, at), *more = seen
    assert (at, more) == (level, [])
    # 40,000 samples: the standard error of their variance is sqrt(2 / 40000) = 0.007
    assert float(x.var()) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_clipping_changes_x0_only(prediction):
    x, raw = pair()
    level = LEVELS["preserving"]
    free = Denoiser(lambda *_: raw, prediction)(x, level)
    clipped = Denoiser(lambda *_: raw, prediction, clip=0.5)(x, level)
    assert torch.equal(clipped.x0, free.x0.clamp(-0.5, 0.5))
    assert torch.equal(clipped.eps, free.eps)
    assert torch.equal(clipped.raw, free.raw)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_tensor_levels_are_float_levels_sample_by_sample(prediction):
    x, raw = pair()
    schedule = Schedule()
    level = schedule.level(torch.tensor([3, 950]), dtype=torch.float64)
    denoiser = Denoiser(lambda *_: raw, prediction)
    together = denoiser(x, level)
    for i, t in enumerate([3, 950]):
        abar = float(schedule.alphas_cumprod[t])
        one = Level(abar**0.5, (1 - abar) ** 0.5, float(t))
        alone = denoiser.read(raw[i : i + 1], x[i : i + 1], one)
        # the same operations; tensor and float roots may round differently
        torch.testing.assert_close(together.x0[i : i + 1], alone.x0, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(together.eps[i : i + 1], alone.eps, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", [name for name in LEVELS if name != "noise"])
def test_slopes_are_the_derivatives(prediction, name):
    level = LEVELS[name]
    x, raw = pair()
    denoiser = Denoiser(lambda *_: raw, prediction)
    at, beside = denoiser.read(raw, x, level), denoiser.read(raw + 1.0, x, level)
    for moved, stood, slope in zip((beside.x0, beside.eps), (at.x0, at.eps), denoiser.slopes(level), strict=True):
        # a difference of values up to 2e4, of 1e-16 relative rounding each
        torch.testing.assert_close((moved - stood).abs(), torch.full_like(x, slope), rtol=1e-10, atol=1e-11)


def test_what_a_denoiser_refuses():
    with pytest.raises(UserError, match=r"'flow'.*epsilon, v_prediction, sample"):
        Denoiser(lambda x, level: x, "flow")
    for clip in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UserError, match="clip"):
            Denoiser(lambda x, level: x, clip=clip)
    with pytest.raises(ValueError, match="sigma = 0"):
        Denoiser(lambda x, level: x, "sample")(pair()[0], Level(1.0, 0.0, 0.0))
    zero_snr = Schedule(rescale_zero_snr=True).level(torch.tensor([5, 999]))
    with pytest.raises(ValueError, match="alpha = 0"):
        Denoiser(lambda x, level: x, "epsilon")(pair()[0], zero_snr)
