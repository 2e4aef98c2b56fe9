"""The variational bound: closed forms for Gaussian data, another writing of it in numpy, and bytes that sum to 1."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from latentbrush.diffusion import Denoiser, Level, PictureNoise, Schedule, bound_levels, variational_bound
from latentbrush.diffusion.bound import discretised_log_likelihood, gaussian_log_density
from latentbrush.diffusion.samplers import Variance
from latentbrush.errors import NotFiniteError, UserError

pytestmark = pytest.mark.capability("bits-per-dimension")
SHAPE = (3, 8, 8)
DDPM = Schedule("linear", 1e-4, 0.02, 1000)


def noise(count: int, seed: int = 100) -> PictureNoise:
    return PictureNoise(range(seed, seed + count), SHAPE, torch.float64)


def exact(spread: float, mean: float = 0.0, *, says: float | None = None) -> Denoiser:
    """What knows that the data are N(mean, spread^2): E[x0 | x]. `says`: its word on the variance."""

    def predict(x: Tensor, level: Level) -> Tensor:
        alpha, sigma = level.floats()
        x = x * level.norm
        x0 = (spread**2 * alpha * x + sigma**2 * mean) / (alpha**2 * spread**2 + sigma**2)
        return x0 if says is None else torch.cat([x0, torch.full_like(x0, says)], 1)

    return Denoiser(predict, "sample")


def data(count: int, spread: float, mean: float = 0.0) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return mean + spread * torch.randn(count, *SHAPE, generator=draws, dtype=torch.float64)


@pytest.mark.parametrize("n_steps", [5, 50])
def test_for_unit_gaussians_it_is_their_entropy_at_any_number_of_steps(n_steps: int) -> None:
    """Their reversed steps are Gaussians of the forward steps' variance, so that nothing is lost."""
    x0 = data(40, 1.0)
    bound = variational_bound(exact(1.0), x0, bound_levels(DDPM, n_steps), noise(40), decoder="density")
    own = -gaussian_log_density(x0, torch.tensor(0.0), torch.tensor(0.0)).flatten(1).sum(1)
    gap = (bound.total - own) / bound.dimensions  # the data's own spread around their entropy taken off
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / 40**0.5
    assert abs(float(gap.mean())) < 0.02


def test_it_falls_to_the_entropy_as_the_steps_grow_in_number() -> None:
    x0, spread = data(6, 0.3, 0.5), 0.3
    own = float(-gaussian_log_density(x0, torch.tensor(0.5), torch.tensor(2 * math.log(spread))).mean())

    def above(variance: Variance) -> list[float]:
        return [
            float(
                variational_bound(
                    exact(spread, 0.5), x0, bound_levels(DDPM, n), noise(6), variance=variance, decoder="density"
                ).total.mean()
            )
            / 192
            - own
            for n in (10, 60, 1000)
        ]

    large, small = above("fixed_large"), above("fixed_small")
    assert large[0] > large[1] > large[2]
    assert -0.01 < large[2] < 0.03
    assert small[0] > small[1] > small[2]
    # Near the data, where the picture varies more than the noise, a posterior's variance is too small at any T.
    assert small[2] > large[2] + 0.3


def test_a_variance_that_is_said_bounds_at_least_as_tightly_as_either_fixed_one() -> None:
    """At its ends it is the fixed ones; between, where the true one lies, there is a better."""
    x0, levels, spread = data(6, 0.3), bound_levels(DDPM, 20), 0.3

    def value(variance: Variance | None, says: float | None = None) -> float:
        denoise = exact(spread, says=says)
        bound = variational_bound(denoise, x0, levels, noise(6), variance=variance, decoder="density")
        return float(bound.total.mean())

    assert value("learned_range", -1.0) == pytest.approx(value("fixed_small"), rel=1e-12)
    assert value("learned_range", 1.0) == pytest.approx(value("fixed_large"), rel=1e-12)
    assert value(None, 0.5) == value("learned_range", 0.5)
    assert value(None) == value("fixed_large")
    said = {share: value("learned_range", share) for share in (-0.5, 0.0, 0.5, 0.8)}
    assert min(said.values()) < min(value("fixed_small"), value("fixed_large"))


@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small", "learned_range"])
@pytest.mark.parametrize("n_steps", [2, 7, None])
def test_it_is_what_the_papers_write(variance: Variance, n_steps: int | None) -> None:
    """In numpy, by betas and their products as DDPM's equations 5 to 7 and improved DDPM's 15 have them."""
    schedule = Schedule("linear", 1e-3, 0.2, 12)
    levels = bound_levels(schedule, n_steps)
    x0 = (torch.randint(0, 256, (3, *SHAPE), generator=torch.Generator().manual_seed(1)).double() / 127.5 - 1).clone()
    found = variational_bound(exact(0.4, says=0.3), x0, levels, noise(3), variance=variance)
    draws = noise(3)
    abar = np.array([float(level.alpha) ** 2 for level in levels][::-1])  # t = 1 .. T, rising noise
    before = np.append(1.0, abar[:-1])
    beta = 1 - abar / before
    posterior = beta * (1 - before) / (1 - abar)
    posterior[0] = posterior[1]
    T, x = len(levels), x0.numpy()
    kl, decoder = [], np.zeros(3)
    for t in range(T - 1, -1, -1):
        eps = draws().numpy()
        xt = np.sqrt(abar[t]) * x + np.sqrt(1 - abar[t]) * eps
        guess = 0.16 * np.sqrt(abar[t]) * xt / (abar[t] * 0.16 + 1 - abar[t])

        def mean(start: np.ndarray, t: int = t, xt: np.ndarray = xt) -> np.ndarray:
            first = np.sqrt(before[t]) * beta[t] / (1 - abar[t]) * start
            return first + np.sqrt(1 - beta[t]) * (1 - before[t]) / (1 - abar[t]) * xt

        # As the published tables: of the fixed large variances the first is the posterior's.
        log_small = np.log(posterior[t])
        log_large = log_small if t == 0 and variance == "fixed_large" else np.log(beta[t])
        log_var = {"fixed_small": log_small, "fixed_large": log_large}.get(
            variance, 0.65 * log_large + 0.35 * log_small
        )
        if t:
            squares = (mean(x) - mean(guess)) ** 2 * np.exp(-log_var)
            each = 0.5 * (-1 + log_var - log_small + np.exp(log_small - log_var) + squares)
            kl.append(each.sum((1, 2, 3)))
        else:
            from scipy.stats import norm

            low = np.where(x < -0.999, -np.inf, x - 1 / 255)
            high = np.where(x > 0.999, np.inf, x + 1 / 255)
            law = norm(mean(guess), np.exp(0.5 * log_var))
            mass = np.where(low > law.mean(), law.sf(low) - law.sf(high), law.cdf(high) - law.cdf(low))
            inner = mass > 1e-250  # below, numpy's numbers end; ours are logarithms
            ours = discretised_log_likelihood(x0, torch.from_numpy(mean(guess)), torch.tensor(log_var)).numpy()
            np.testing.assert_allclose(ours[inner], np.log(mass[inner]), rtol=1e-6, atol=1e-9)
            decoder = -ours.sum((1, 2, 3))
    prior = 0.5 * (-1 - np.log(1 - abar[-1]) + (1 - abar[-1]) + abar[-1] * x**2).sum((1, 2, 3))
    np.testing.assert_allclose(found.prior, prior, rtol=1e-9)
    np.testing.assert_allclose(found.steps, np.stack(kl, 1), rtol=1e-9)
    np.testing.assert_allclose(found.decoder, decoder, rtol=1e-9)
    total = (prior + np.sum(kl, 0) + decoder) / (192 * math.log(2))
    np.testing.assert_allclose(found.bits, total, rtol=1e-9)


@pytest.mark.parametrize("deviation", [1e-4, 0.01, 0.3, 5.0])
@pytest.mark.parametrize("mean", [-1.3, -1.0, 0.1, 0.999, 4.0])
def test_the_256_bytes_sum_to_1(mean: float, deviation: float) -> None:
    every = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    found = discretised_log_likelihood(
        every, torch.tensor(mean).double(), torch.tensor(2 * math.log(deviation)).double()
    )
    assert found.isfinite().all()
    assert (found <= 0).all()
    assert float(found.logsumexp(0)) == pytest.approx(0, abs=1e-12)


def test_far_bins_have_logarithms_where_probabilities_end() -> None:
    """The mass of a bin 100 deviations away is about density times width, in logarithms -5000."""
    x, deviation = torch.tensor(0.0, dtype=torch.float64), 1e-3
    found = discretised_log_likelihood(x, torch.tensor(0.1).double(), torch.tensor(2 * math.log(deviation)).double())
    edge = (0.1 - 1 / 255) / deviation
    assert float(found) == pytest.approx(-0.5 * edge**2 - math.log(edge * math.sqrt(2 * math.pi)), rel=1e-6)


def test_errors_fall_and_are_those_of_the_estimates() -> None:
    bound = variational_bound(exact(1.0), data(8, 1.0), bound_levels(DDPM, 10), noise(8), decoder="density")
    # E[(x0 - E[x0 | x])^2] = sigma^2 for unit data.
    expected = torch.tensor([float(level.sigma) ** 2 for level in bound.levels], dtype=torch.float64)
    torch.testing.assert_close(bound.errors.mean(0), expected, rtol=0.1, atol=0)
    assert bound.errors.shape == (8, 10)
    assert bound.steps.shape == (8, 9)


def test_a_picture_has_its_bound_in_any_company() -> None:
    x0, levels = data(4, 1.0), bound_levels(DDPM, 6)
    whole = variational_bound(exact(0.7), x0, levels, noise(4), decoder="density")
    alone = variational_bound(exact(0.7), x0[2:3], levels, noise(1, 102), decoder="density")
    torch.testing.assert_close(alone.total, whole.total[2:3], rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_bytes_are_bytes_in_half_precision_too(dtype: torch.dtype) -> None:
    x0 = torch.arange(192).reshape(1, *SHAPE).double() * 255 / 191
    x0 = x0.round() / 127.5 - 1
    x0[0, 0, 0, 0] = -1
    levels = bound_levels(DDPM, 3)
    exactly = variational_bound(exact(1.0), x0, levels, noise(1))
    rounded = variational_bound(exact(1.0), x0.to(dtype), levels, lambda: noise(1)().to(dtype))
    assert torch.equal(rounded.prior, exactly.prior)  # all that depends on the bytes alone
    torch.testing.assert_close(rounded.errors[:, 0], exactly.errors[:, 0], rtol=0.05, atol=0)


def test_pure_noise_at_the_end_tells_nothing() -> None:
    schedule = Schedule("linear", 1e-4, 0.02, 50, rescale_zero_snr=True)
    bound = variational_bound(exact(1.0), data(3, 1.0), bound_levels(schedule), noise(3), decoder="density")
    assert not bound.prior.any()
    assert bound.total.isfinite().all()


def test_levels_hold_both_ends() -> None:
    assert [level.t for level in bound_levels(DDPM, 3)] == [999, 500, 0]
    assert [level.t for level in bound_levels(DDPM)] == list(range(999, -1, -1))
    for wrong in (1, 1001):
        with pytest.raises(UserError, match=f"a bound of {wrong} steps; the schedule has 1000"):
            bound_levels(DDPM, wrong)


def test_what_has_no_bound_is_refused() -> None:
    levels = bound_levels(DDPM, 4)
    with pytest.raises(ValueError, match="no bytes in"):
        variational_bound(exact(1.0), data(2, 1.0), levels, noise(2))
    with pytest.raises(UserError, match="says no variance"):
        variational_bound(exact(1.0), data(2, 1.0), levels, noise(2), variance="learned_range", decoder="density")
    with pytest.raises(UserError, match="1 levels has no steps"):
        variational_bound(exact(1.0), data(2, 1.0), levels[:1], noise(2), decoder="density")
    with pytest.raises(NotFiniteError, match="not finite"):
        broken = Denoiser(lambda x, level: x * math.nan, "sample")
        variational_bound(broken, data(2, 1.0), levels, noise(2), decoder="density")
