"""Retrieval accuracy on matrices whose answer can be seen."""

import pytest
import torch

from latentbrush.evaluation import retrieval_accuracy

pytestmark = pytest.mark.capability("retrieval")

SIMILARITY = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.3, 0.2], [0.1, 0.2, 0.7]])


def test_both_directions_are_counted_apart() -> None:
    # Caption 1 finds picture 0; each picture finds its caption.
    assert retrieval_accuracy(SIMILARITY) == pytest.approx((2 / 3, 1.0))
    assert retrieval_accuracy(SIMILARITY.T) == pytest.approx((1.0, 2 / 3))


def test_another_right_answer_counts() -> None:
    same = torch.zeros(3, 3, dtype=torch.bool)
    same[1, 0] = True
    assert retrieval_accuracy(SIMILARITY, same) == (1.0, 1.0)


def test_numbers_that_are_none_are_never_right() -> None:
    assert retrieval_accuracy(torch.full((2, 2), torch.nan)) == (0.0, 0.0)


@pytest.mark.parametrize("shape", [(2, 3), (0, 0), (4,)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="similarity must be"):
        retrieval_accuracy(torch.zeros(shape))
