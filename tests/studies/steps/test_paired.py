"""Distances of paired sets: those of identical sets do not differ, and what all share does not blur a difference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latentbrush.evaluation import frechet_distance, moments
from latentbrush.evaluation.frechet import frechet_from
from latentbrush.studies.steps.paired import difference, distances, resamples

pytestmark = pytest.mark.capability("studies")


def features(count: int, seed: int = 0, shift: float = 0.0) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


REFERENCE = moments([features(2000, 7)])
DRAWS = resamples(60, 100, 3)


def test_resampled_distances_are_those_of_the_sets_named() -> None:
    x = features(60, 1)
    value, tries = distances(REFERENCE, x, DRAWS)
    assert value == pytest.approx(frechet_distance(REFERENCE, moments([x])), abs=1e-12)
    for i in (0, 99):
        assert float(tries[i]) == pytest.approx(frechet_distance(REFERENCE, moments([x[DRAWS[i]]])), abs=1e-12)
    assert torch.equal(DRAWS, resamples(60, 100, 3))
    assert not torch.equal(DRAWS, resamples(60, 100, 4))
    assert frechet_from(REFERENCE)(moments([x])) == frechet_distance(REFERENCE, moments([x]))


def test_identical_sets_do_not_differ() -> None:
    one = distances(REFERENCE, features(60, 1), DRAWS)
    same = difference(one, one)
    assert (same.value, same.deviation, same.interval) == (0, 0, (0, 0))
    assert not same.is_told


def test_pairs_tell_what_sets_by_themselves_do_not() -> None:
    x = features(60, 1)
    near, far = (distances(REFERENCE, x + shift, DRAWS) for shift in (0.0, 0.3))
    apart = difference(near, far)
    # All means move by 0.3, of which the first distance has the sampling error already.
    error = x.mean(0) - REFERENCE.mean
    assert apart.value == pytest.approx(float((error + 0.3).square().sum() - error.square().sum()), abs=1e-9)
    assert apart.is_told
    low, high = apart.interval
    assert low < apart.value < high
    other = distances(REFERENCE, x + 0.3, resamples(60, 100, 9))  # other pictures: no pairs
    assert apart.deviation < difference(near, other).deviation


def test_unlike_numbers_of_sets_are_no_pairs() -> None:
    one = distances(REFERENCE, features(60, 1), DRAWS)
    with pytest.raises(ValueError, match="100 and 5 resampled sets are no pairs"):
        difference(one, distances(REFERENCE, features(60, 1), DRAWS[:5]))
