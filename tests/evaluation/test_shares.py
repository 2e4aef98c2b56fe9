"""Intervals of shares: known values, clusters, and how often they hold the truth."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latentbrush.evaluation.shares import _student, clustered_interval

pytestmark = pytest.mark.capability("composition-accuracy")


def answers(*right: int) -> Tensor:
    return torch.tensor(right)[:, None]


def test_wilsons_interval_for_independent_answers() -> None:
    # Newcombe 1998, table I, 81 of 263 by method 3; here a little wider, for the variance is estimated.
    low, high = clustered_interval(answers(*[1] * 81, *[0] * 182), range(263))
    assert low == pytest.approx(0.2553, abs=1e-3)
    assert high == pytest.approx(0.3662, abs=1e-3)
    assert low < 0.2553
    assert high > 0.3662


@pytest.mark.parametrize(("degrees", "quantile"), [(2, 4.303), (4, 2.776), (10, 2.228), (60, 2.000)])
def test_students_quantiles(degrees: int, quantile: float) -> None:
    assert _student(degrees) == pytest.approx(quantile, rel=0.035 if degrees < 4 else 0.005)


@pytest.mark.parametrize(("value", "expected"), [(0, (0.0, 0.0381)), (1, (0.9619, 1.0))])
def test_none_and_all_of_97_are_not_certain(value: int, expected: tuple[float, float]) -> None:
    assert clustered_interval(answers(*[value] * 97), range(97)) == pytest.approx(expected, abs=1e-4)
    # Asking the same 97 four times makes nobody surer of what the next emoji will do.
    assert clustered_interval(torch.full((97, 4), value), range(97)) == pytest.approx(expected, abs=1e-4)


def test_repeating_a_question_adds_nothing_within_its_cluster() -> None:
    right = answers(*[1, 0, 0, 1, 0, 0, 0, 1, 0, 1])
    once = clustered_interval(right, range(10))
    names = [i for i in range(10) for _ in range(6)]
    assert clustered_interval(right.repeat_interleave(6, 0), names) == pytest.approx(once)
    low, high = clustered_interval(right.repeat_interleave(6, 0), range(60))
    assert high - low < 0.6 * (once[1] - once[0])


def test_clusters_that_agree_by_chance_count_as_independent_answers_and_no_more() -> None:
    low, high = clustered_interval(torch.tensor([[1, 0]] * 200), range(200))
    assert (low, high) == pytest.approx((0.4513, 0.5487), abs=1e-3)  # Wilson's, 200 of 400


def test_one_cluster_says_little() -> None:
    low, high = clustered_interval(torch.tensor([[1], [0], [1]]), ["same"] * 3)
    assert low < 0.1
    assert high > 0.9


@pytest.mark.parametrize("clusters", [3, 8, 50])
def test_it_holds_the_truth_about_as_often_as_it_says(clusters: int) -> None:
    draws = torch.Generator().manual_seed(0)
    names = [i for i in range(clusters) for _ in range(3)]
    held = naive = 0
    for _ in range(400):
        # Each family has a share of its own, 0.3 on average; three emoji of it, four seeds each.
        shares = torch.rand(clusters, generator=draws) ** 2 * 0.9
        right = torch.rand(clusters * 3, 4, generator=draws) < shares.repeat_interleave(3)[:, None]
        low, high = clustered_interval(right, names)
        held += low <= 0.3 <= high
        low, high = clustered_interval(right.reshape(-1, 1), range(clusters * 12))
        naive += low <= 0.3 <= high
    assert 0.92 <= held / 400 <= 0.99
    assert naive / 400 < 0.8  # what it would be without clusters


@pytest.mark.parametrize("right", [torch.zeros(0, 4), torch.zeros(3, 0), torch.zeros(3), torch.zeros(2, 4)])
def test_answers_without_sense_are_refused(right: Tensor) -> None:
    with pytest.raises(ValueError, match="3 clusters"):
        clustered_interval(right, ["a", "b", "c"])
