"""The Frechet distance and what it is made of, against closed forms, numpy, scipy and torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor
from torchmetrics.image.fid import _compute_fid

from latentbrush import UserError
from latentbrush.evaluation import Moments, RunningMoments, frechet_distance, moments

pytestmark = pytest.mark.capability("fid")


def features(count: int, width: int = 6, seed: int = 0, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return torch.randn(count, width, generator=generator, dtype=torch.float64) @ mixed + shift


def given(mean: Tensor, covariance: Tensor) -> Moments:
    return Moments(mean, covariance, 100)


def test_moments_are_numpys_however_the_batches_fall() -> None:
    x = features(500) + 1e4  # a mean far beyond the spread
    expected = np.mean(x.numpy(), 0), np.cov(x.numpy(), rowvar=False)
    for sizes in ([500], [1] * 500, [3, 0, 497], [250, 250]):
        found = moments(torch.split(x, sizes))
        assert found.count == 500
        np.testing.assert_allclose(found.mean, expected[0], rtol=1e-12)
        np.testing.assert_allclose(found.covariance, expected[1], rtol=1e-6, atol=1e-6)


def test_two_halves_are_the_whole() -> None:
    x = features(301)
    merged = RunningMoments().add(x[:120]).merge(RunningMoments().add(x[120:])).merge(RunningMoments()).finish()
    whole = moments([x])
    torch.testing.assert_close(merged.covariance, whole.covariance, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-12, atol=1e-12)
    assert merged.count == 301


def test_of_gaussians_whose_distance_is_known() -> None:
    # Diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2.
    first = given(torch.zeros(3, dtype=torch.float64), torch.diag(torch.tensor([1.0, 4.0, 9.0])).double())
    second = given(torch.tensor([1.0, 0.0, 2.0]).double(), torch.diag(torch.tensor([4.0, 4.0, 1.0])).double())
    assert frechet_distance(first, second) == pytest.approx(5 + (1 + 0 + 4), abs=1e-12)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("count", [400, 9])
def test_against_scipys_root_and_torchmetrics(count: int) -> None:
    width = 12  # of 9 features the covariances are singular
    first, second = moments([features(count, width)]), moments([features(count, width, seed=1, shift=0.3)])
    found = frechet_distance(first, second)
    # Of singular covariances some eigenvalues are 0, rounded to 1e-16, whose root is 1e-8.
    singular = count <= width
    assert found == pytest.approx(frechet_distance(second, first), rel=1e-7 if singular else 1e-9)
    theirs = _compute_fid(first.mean, first.covariance, second.mean, second.covariance)
    # The root of a singular product is known to half its digits on their side.
    assert found == pytest.approx(float(theirs), rel=1e-5 if singular else 1e-9)
    if not singular:
        product = linalg.sqrtm(first.covariance.numpy() @ second.covariance.numpy())
        traces = float((first.covariance + second.covariance).trace()) - 2 * np.trace(product).real
        assert found == pytest.approx(float((first.mean - second.mean).square().sum()) + traces, rel=1e-9)


def test_more_pictures_of_one_kind_come_nearer() -> None:
    mixed = features(20_000)
    far, near = (frechet_distance(moments([mixed[:n]]), moments([mixed[10_000 : 10_000 + n]])) for n in (100, 10_000))
    assert near < far / 10


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(UserError, match="1 pictures have no covariance; give at least 2"):
        moments([features(1)])
    with pytest.raises(UserError, match="0 pictures"):
        moments([])
    broken = features(5)
    broken[2, 1] = math.nan
    with pytest.raises(UserError, match="1 of 5 pictures have features that are not finite"):
        moments([broken])
    with pytest.raises(UserError, match="features of 3 numbers follow features of 6"):
        RunningMoments().add(features(4)).add(features(4, 3))
    with pytest.raises(UserError, match="features of 6 and of 3 numbers have no distance"):
        frechet_distance(moments([features(9)]), moments([features(9, 3)]))
    with pytest.raises(ValueError, match="must be"):
        RunningMoments().add(torch.zeros(3))
