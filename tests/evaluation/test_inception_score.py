"""The inception score of distributions that are known."""

from __future__ import annotations

import pytest
import torch

from latentbrush import UserError
from latentbrush.evaluation import inception_score

pytestmark = pytest.mark.capability("inception-score")


def test_sure_and_varied_is_the_number_of_classes_alike_is_one() -> None:
    sure = 1e4 * torch.eye(8).repeat(10, 1)
    assert inception_score(sure, splits=10) == pytest.approx((8.0, 0.0))
    assert inception_score(sure[:1].repeat(80, 1), splits=10) == pytest.approx((1.0, 0.0))
    assert inception_score(torch.zeros(80, 8), splits=1) == pytest.approx((1.0, 0.0))


def test_of_two_unsure_classes() -> None:
    p = torch.tensor([0.9, 0.1])
    logits = torch.stack([p.log(), p.flip(0).log()])
    divergence = 0.9 * torch.log(torch.tensor(0.9 / 0.5)) + 0.1 * torch.log(torch.tensor(0.1 / 0.5))
    assert inception_score(logits, splits=1)[0] == pytest.approx(float(divergence.exp()), rel=1e-6)


def test_order_matters_unless_shuffled() -> None:
    """Sorted by class, every part knows one only."""
    ordered = 1e4 * torch.eye(4).repeat_interleave(50, 0)
    assert inception_score(ordered, splits=4)[0] == pytest.approx(1.0)
    assert inception_score(ordered, splits=4, seed=0)[0] > 3.5
    assert inception_score(ordered, splits=1) == inception_score(ordered, splits=1, seed=0) == pytest.approx((4.0, 0.0))


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(UserError, match="5 pictures cannot make 10 parts; choose from 1 to 5"):
        inception_score(torch.zeros(5, 3))
    with pytest.raises(ValueError, match="must be"):
        inception_score(torch.zeros(5))
    with pytest.raises(UserError, match="not finite"):
        inception_score(torch.full((20, 3), torch.nan))
