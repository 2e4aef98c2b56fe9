"""Intervals: closed forms, and how often they hold the expectation of the figure at that number of pictures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.evaluation import Moments, frechet_distance, moments
from latentbrush.evaluation import bootstrap as module
from latentbrush.evaluation.bootstrap import (
    deviation_of,
    frechet_difference,
    frechet_influences,
    frechet_interval,
    mean_interval,
    resampled_counts,
)

pytestmark = pytest.mark.capability("bootstrap")


def unit(width: int) -> Moments:
    return Moments(torch.zeros(width, dtype=torch.float64), torch.eye(width, dtype=torch.float64), 10**6)


def drawn(count: int, width: int, draws: torch.Generator, shift: float = 0.2, scale: float = 1.1) -> Tensor:
    return shift + scale * torch.randn(count, width, generator=draws, dtype=torch.float64)


def resampled(features: Tensor, reference: Moments, seed: int, resamples: int = 40) -> Tensor:
    """(resamples,) distances of as many pictures drawn from `features` with replacement."""
    sets = (features.repeat_interleave(times.long(), 0) for times in resampled_counts(len(features), resamples, seed))
    return torch.tensor([frechet_distance(moments([one]), reference) for one in sets], dtype=torch.float64)


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
    estimate, found = frechet_influences(features, reference)
    torch.testing.assert_close(found, torch.tensor(influences, dtype=torch.float64), rtol=1e-5, atol=1e-7)
    interval = frechet_interval(features, reference)
    assert interval.estimate == estimate == frechet_distance(moments([features]), reference)
    assert interval.high - estimate == pytest.approx(1.959964 * float(found.norm()) / n)


def test_influences_do_not_depend_on_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    features, reference = drawn(12, 3, torch.Generator().manual_seed(0)), unit(3)
    _, whole = frechet_influences(features, reference)
    monkeypatch.setattr(module, "AT_ONCE", 5)
    torch.testing.assert_close(frechet_influences(features, reference)[1], whole)


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


def test_resampling_a_distance_misses_it_and_overstates_its_spread() -> None:
    """At n = 3 d. Duplicates make the covariance poorer: so the percentiles lie too high, and too far apart."""
    count, width, draws = 60, 20, torch.Generator().manual_seed(1)
    reference = unit(width)
    tries = torch.tensor([frechet_distance(moments([drawn(count, width, draws)]), reference) for _ in range(400)])
    held, spreads, jackknives = 0, [], []
    for trial in range(40):
        features = drawn(count, width, draws)
        values = resampled(features, reference, trial)
        low, high = values.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
        held += bool(low <= tries.mean() <= high)
        spreads.append(float(values.std()))
        jackknives.append(deviation_of(frechet_influences(features, reference)[1]))
    resampling, jackknife = (sum(all_of) / len(all_of) / float(tries.std()) for all_of in (spreads, jackknives))
    assert held < 4  # of 40 that claim 95%
    # The reference's docstring has some 80% and a third; 400 draws tell a deviation to within 4%.
    assert 1.7 < resampling < 1.95
    assert 1.2 < jackknife < 1.45


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_a_paired_difference_is_as_sure_as_repeating_it_shows(shift: float) -> None:
    """At n = 2 d, of sets that share most of what makes a picture: another draw of both moves both distances alike."""
    count, width, draws = 32, 16, torch.Generator().manual_seed(2)
    reference = unit(width)

    def pair() -> tuple[Tensor, Tensor]:
        common = drawn(count, width, draws)
        first, second = (common + 0.3 * drawn(count, width, draws, 0.0, 1.0) for _ in range(2))
        return first, second + shift

    def difference(first: Tensor, second: Tensor) -> float:
        return frechet_distance(moments([second]), reference) - frechet_distance(moments([first]), reference)

    tries = torch.tensor([difference(*pair()) for _ in range(400)])
    expectation, true = float(tries.mean()), float(tries.std())
    held, halves, alone, spreads = 0, [], [], []
    for trial in range(60):
        first, second = pair()
        both = frechet_influences(first, reference), frechet_influences(second, reference)
        found = frechet_difference(*both)
        assert found.estimate == pytest.approx(difference(first, second))
        held += found.low <= expectation <= found.high
        halves.append((found.high - found.low) / 2 / 1.959964)
        alone.append(sum(deviation_of(one) ** 2 for _, one in both) ** 0.5)
        spreads.append(float((resampled(second, reference, trial) - resampled(first, reference, trial)).std()))
    jackknife, unpaired, resampling = (sum(all_of) / len(all_of) / true for all_of in (halves, alone, spreads))
    assert held >= 56  # of 60: at least what they claim
    # Too wide still, by some 15 to 20%; resampling the pairs by 35 to 40%, two sets by themselves three times.
    assert 1.05 < jackknife < 1.3 < resampling < 1.55 < 2.5 < unpaired


def test_sets_that_are_the_same_do_not_differ() -> None:
    one = frechet_influences(drawn(20, 3, torch.Generator().manual_seed(0)), unit(3))
    same = frechet_difference(one, one)
    assert (same.estimate, same.low, same.high, same.excludes_zero) == (0, 0, 0, False)
    with pytest.raises(ValueError, match="20 and 19 pictures are no pairs"):
        frechet_difference(one, (one[0], one[1][1:]))


def test_a_difference_is_told_where_0_lies_outside() -> None:
    generator = torch.Generator().manual_seed(0)
    x = drawn(20, 3, generator)
    near, far = frechet_influences(x, unit(3)), frechet_influences(x + 1.0, unit(3))
    further, nearer = frechet_difference(near, far), frechet_difference(far, near)
    # All means move by 1, of which the first distance has its own part already.
    error = x.mean(0)
    assert further.estimate == pytest.approx(float((error + 1).square().sum() - error.square().sum()))
    assert (further.low, further.high) == (-nearer.high, -nearer.low)
    assert further.excludes_zero
    assert nearer.excludes_zero
    assert further.low > 0 > nearer.high
    noise = x + 0.01 * drawn(20, 3, generator, 0.0, 1.0)
    assert not frechet_difference(near, frechet_influences(noise, unit(3))).excludes_zero


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
    with pytest.raises(UserError, match="1 pictures have no interval"):
        frechet_interval(torch.zeros(1, 2), unit(2))
    with pytest.raises(UserError, match="no distance"):
        frechet_interval(torch.zeros(5, 3), unit(2))
