"""Intervals: closed forms, and how often they hold the expectation of the figure at that number of pictures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.evaluation import Moments, frechet_distance, moments
from latentbrush.evaluation import bootstrap as module
from latentbrush.evaluation.bootstrap import (
    Centre,
    bootstrap_interval,
    frechet_interval,
    mean_interval,
    resampled_counts,
    weighted_moments,
)

pytestmark = pytest.mark.capability("bootstrap")


def unit(width: int) -> Moments:
    return Moments(torch.zeros(width, dtype=torch.float64), torch.eye(width, dtype=torch.float64), 10**6)


def drawn(count: int, width: int, draws: torch.Generator, shift: float = 0.2, scale: float = 1.1) -> Tensor:
    return shift + scale * torch.randn(count, width, generator=draws, dtype=torch.float64)


def test_weights_are_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 3)
    features = drawn(10, 4, torch.Generator().manual_seed(0))
    counts = torch.tensor([2, 0, 1, 3, 0, 1, 1, 0, 0, 2], dtype=torch.float64)
    found, expected = weighted_moments(features, counts), moments([features.repeat_interleave(counts.long(), 0)])
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.covariance, expected.covariance)
    assert found.count == expected.count == 10


def test_a_seed_draws_the_same_and_as_many() -> None:
    first, again, other = (torch.stack(list(resampled_counts(9, 50, seed))) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first.sum(1) == 9).all()
    assert first.mean() == 1


def test_the_interval_of_a_mean_is_that_of_the_normal_law() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 20
    found = mean_interval(values, resamples=4000)
    half = 1.96 * float(values.std(correction=0)) / 20
    assert found.estimate == pytest.approx(float(values.mean()))
    # 4000 resamples put a quantile within some 4% of the half width.
    assert found.low == pytest.approx(found.estimate - half, abs=0.1 * half)
    assert found.high == pytest.approx(found.estimate + half, abs=0.1 * half)
    assert mean_interval(values, resamples=100) == mean_interval(values, resamples=100)


def test_pictures_that_belong_together_count_for_less() -> None:
    draws = torch.Generator().manual_seed(0)
    of_caption, held, naive = 4, 0, 0
    for trial in range(200):
        captions = torch.randn(30, generator=draws, dtype=torch.float64).repeat_interleave(of_caption)
        values = captions + 0.3 * torch.randn(len(captions), generator=draws, dtype=torch.float64)
        names = [i // of_caption for i in range(len(values))]
        found = mean_interval(values, clusters=names, resamples=100, seed=trial)
        alone = mean_interval(values, resamples=100, seed=trial)
        held += found.low <= 0 <= found.high
        naive += alone.low <= 0 <= alone.high
    assert 0.88 <= held / 200 <= 0.99
    assert naive / 200 < 0.8
    each = mean_interval(values, clusters=range(len(values)), resamples=100)
    assert each.low == pytest.approx(mean_interval(values, resamples=100).low)


def test_the_jackknife_is_the_limit_of_leaving_weights_out() -> None:
    """Its influences are the derivative of the distance by a picture's weight, here by finite differences."""
    features, reference = drawn(12, 3, torch.Generator().manual_seed(0)), unit(3)
    n, step = len(features), 1e-5

    def distance(weights: Tensor) -> float:
        mean = weights @ features / weights.sum()
        centred = features - mean
        covariance = (centred.T * weights) @ centred / weights.sum() * n / (n - 1)
        return frechet_distance(Moments(mean, covariance, n), reference)

    influences = []
    for i in range(n):
        there = torch.nn.functional.one_hot(torch.tensor(i), n).double()
        # At unit total, weight moves from all to the one; n times it is the influence.
        up, down = (torch.ones(n).double() * (1 - sign * step / n) + sign * step * there for sign in (1, -1))
        influences.append((distance(up) - distance(down)) / (2 * step) * n)
    found = frechet_interval(features, reference)
    expected = 1.959964 * float(torch.tensor(influences).norm()) / n
    assert found.high - found.estimate == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("count", "width"), [(60, 4), (60, 20), (30, 32)])
def test_the_jackknife_holds_the_expectation_at_that_n(count: int, width: int) -> None:
    draws, reference = torch.Generator().manual_seed(0), unit(width)
    tries = [frechet_distance(moments([drawn(count, width, draws)]), reference) for _ in range(300)]
    expectation = sum(tries) / len(tries)
    held = 0
    for _ in range(150):
        found = frechet_interval(drawn(count, width, draws), reference)
        held += found.low <= expectation <= found.high
    assert 0.88 <= held / 150 <= 0.995


@pytest.mark.parametrize(("centre", "least", "most"), [("centred", 0.9, 1.0), ("percentile", 0.0, 0.6)])
def test_quantiles_of_a_biased_figure_hold_it_only_once_they_are_moved_back(
    centre: Centre, least: float, most: float
) -> None:
    """Resampling adds its own bias to that of the sample: so the Frechet distance's percentiles lie too high.

    Moved back, they hold it more often than they say, for the spread is overstated, too.
    """
    draws, reference = torch.Generator().manual_seed(1), unit(12)
    tries = [frechet_distance(moments([drawn(60, 12, draws)]), reference) for _ in range(300)]
    expectation = sum(tries) / len(tries)
    held = 0
    for trial in range(60):
        features = drawn(60, 12, draws)

        def distance(counts: Tensor, features: Tensor = features) -> float:
            return frechet_distance(weighted_moments(features, counts), reference)

        found = bootstrap_interval(distance, 60, centre=centre, resamples=60, seed=trial)
        held += found.low <= expectation <= found.high
    assert least <= held / 60 <= most


def test_what_has_no_interval_is_refused() -> None:
    values = torch.arange(5.0)
    with pytest.raises(UserError, match="1 pictures have no interval"):
        mean_interval(values[:1])
    with pytest.raises(UserError, match="1 clusters of pictures have no interval"):
        mean_interval(values, clusters=["same"] * 5)
    with pytest.raises(UserError, match="39 resamples"):
        mean_interval(values, resamples=39)
    with pytest.raises(UserError, match="level is 1"):
        mean_interval(values, level=1)
    with pytest.raises(UserError, match="figure is not finite"):
        mean_interval(torch.tensor([1.0, torch.inf]))
    with pytest.raises(UserError, match="no distance"):
        frechet_interval(torch.zeros(5, 3), unit(2))
