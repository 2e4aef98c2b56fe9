"""The training objective against its formulas written out."""

import math

import pytest
import torch

from latentbrush.diffusion import Denoiser, Schedule, diffusion_loss, loss_weight
from latentbrush.errors import UserError

pytestmark = pytest.mark.capability("diffusion-losses")

PREDICTIONS = ["epsilon", "v_prediction", "sample"]
T = torch.tensor([0, 120, 600, 999])


def batch(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, len(T), 3, 4, 5, generator=generator, dtype=torch.float64).to(dtype).unbind(0)


def network(x, level):
    return torch.tanh(x.roll(1, 1)) + level.t.to(x).reshape(-1, 1, 1, 1) / 1000


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_uniform_loss_is_the_squared_error_at_the_noised_picture(prediction):
    x0, eps = batch()
    schedule = Schedule()
    loss = diffusion_loss(Denoiser(network, prediction), x0, eps, schedule.level(T, dtype=torch.float64))
    assert loss.shape == (len(T),)
    for i, t in enumerate(T.tolist()):
        abar = float(schedule.alphas_cumprod[t])
        a, s = math.sqrt(abar), math.sqrt(1 - abar)
        x = a * x0[i] + s * eps[i]
        target = {"epsilon": eps[i], "sample": x0[i], "v_prediction": a * eps[i] - s * x0[i]}[prediction]
        error = (torch.tanh(x.roll(1, 0)) + t / 1000 - target).square().mean()
        assert float(loss[i]) == pytest.approx(float(error), rel=1e-13)  # sums of 60 in another order


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("weighting", ["uniform", "min_snr"])
def test_a_perfect_network_has_no_loss_and_finds_the_gradient(prediction, weighting):
    x0, eps = batch()
    level = Schedule(rescale_zero_snr=True).level(T, dtype=torch.float64)
    missed = torch.zeros(len(T), 1, 1, 1, dtype=torch.float64, requires_grad=True)
    denoiser = Denoiser(lambda x, at: denoiser.target(x0, eps, at) + missed, prediction)
    loss = diffusion_loss(denoiser, x0, eps, level, weighting=weighting, floor=0.1)
    assert torch.equal(loss.detach(), torch.zeros(len(T), dtype=torch.float64))
    loss.sum().backward()
    assert bool(missed.grad.isfinite().all())


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_weights_are_those_of_the_paper(gamma):
    schedule = Schedule()
    abar = schedule.alphas_cumprod[T]
    snr = abar / (1 - abar)
    least = snr.clamp(max=gamma)
    expected = {"epsilon": least / snr, "v_prediction": least / (snr + 1), "sample": least}
    for prediction, weights in expected.items():
        found = loss_weight(
            Denoiser(network, prediction), schedule.level(T, dtype=torch.float64), "min_snr", gamma=gamma
        )
        # snr reaches 1200, from 1 - abar = 8e-4, whose rounding is 1e-13 of it
        torch.testing.assert_close(found, weights, rtol=1e-12, atol=0)


def test_weights_at_zero_snr_and_their_floor():
    level = Schedule(rescale_zero_snr=True).level(T)
    for prediction, at_zero in [("epsilon", 1.0), ("v_prediction", 0.0), ("sample", 0.0)]:
        denoiser = Denoiser(network, prediction)
        free = loss_weight(denoiser, level, "min_snr")
        assert float(free[-1]) == at_zero
        assert torch.equal(loss_weight(denoiser, level, "min_snr", floor=0.05), free.clamp(min=0.05))
        assert torch.equal(loss_weight(denoiser, level, "uniform"), torch.ones(len(T)))


@pytest.mark.parametrize("weighting", ["uniform", "min_snr"])
def test_a_sample_does_not_feel_its_batch(weighting):
    x0, eps = batch(torch.float32)
    schedule, denoiser = Schedule(), Denoiser(network, "v_prediction")
    together = diffusion_loss(denoiser, x0, eps, schedule.level(T), weighting=weighting)
    assert together.dtype == torch.float32
    for i in range(len(T)):
        part = slice(i, i + 1)
        alone = diffusion_loss(denoiser, x0[part], eps[part], schedule.level(T[part]), weighting=weighting)
        # vectorised sums of 60 float32 may be taken in another order
        torch.testing.assert_close(together[part], alone, rtol=1e-6, atol=0)


def test_a_half_precision_network_is_judged_in_the_type_of_the_picture():
    x0, eps = batch(torch.float32)
    denoiser = Denoiser(lambda x, level: network(x, level).to(torch.bfloat16), "v_prediction")
    assert diffusion_loss(denoiser, x0, eps, Schedule().level(T)).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weighting": "snr"}, "'snr'.*uniform, min_snr"),
        ({"weighting": "min_snr", "gamma": 0.0}, "gamma 0.0"),
        ({"weighting": "min_snr", "floor": -1.0}, "floor -1.0"),
    ],
)
def test_what_the_loss_refuses(options, said):
    x0, eps = batch()
    with pytest.raises(UserError, match=said):
        diffusion_loss(Denoiser(network), x0, eps, Schedule().level(T), **options)
