"""Precision, recall, density and coverage on sets whose answer can be seen."""

from __future__ import annotations

import pytest
import torch

from latentbrush import UserError
from latentbrush.evaluation import manifold, precision_recall

pytestmark = pytest.mark.capability("precision-recall")

LINE = torch.arange(10.0)[:, None]


def test_the_same_set_is_wholly_covered() -> None:
    found = precision_recall(LINE, LINE, 1)
    assert (found.precision, found.recall, found.coverage) == (1.0, 1.0, 1.0)
    # Every ball of radius 1 holds itself and one or two neighbours: 28 memberships of 10 points.
    assert found.density == pytest.approx(2.8)


def test_a_model_that_knows_one_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """All it paints is real, and it reaches half of what is: with strips that do not divide the rows, too."""
    for size in (2048, 3):
        monkeypatch.setattr(manifold, "AT_ONCE", size)
        found = precision_recall(torch.cat([LINE, LINE + 1000]), LINE + 0.5, 1)
        assert found.precision == 1.0
        assert found.recall == 0.5
        assert found.coverage == 0.5
        assert found.density == pytest.approx(1.9)  # each lies between two real ones, the last beside one


def test_a_model_that_paints_rubbish_beside() -> None:
    found = precision_recall(LINE, torch.cat([LINE, LINE * 3 + 1000]), 1)
    assert found.precision == 0.5
    assert found.recall == 1.0


def test_one_real_outlier_makes_recall_easy_but_not_coverage() -> None:
    """What density and coverage were made for: a painted outlier's ball holds everything."""
    painted = torch.tensor([[0.0], [100.0]])
    found = precision_recall(LINE, painted, 1)
    assert found.recall == 1.0
    assert found.coverage == pytest.approx(0.2)


def test_a_published_neighbourhood_needs_enough_pictures() -> None:
    with pytest.raises(UserError, match=r"5 neighbours .* 5 real and 10 painted pictures; choose from 1 to 4"):
        precision_recall(LINE[:5], LINE, 5)
    with pytest.raises(UserError, match="0 neighbours"):
        precision_recall(LINE, LINE, 0)
    with pytest.raises(UserError, match="have no distance"):
        precision_recall(LINE, torch.zeros(4, 2))
    with pytest.raises(UserError, match="not finite"):
        precision_recall(LINE, LINE / 0, 1)
