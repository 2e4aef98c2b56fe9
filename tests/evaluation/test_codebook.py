"""How much of a codebook is in use, counted by hand."""

import pytest
import torch

from latentbrush.evaluation import codebook_usage

pytestmark = pytest.mark.capability("train-vq")


def test_usage_is_counted() -> None:
    even = codebook_usage(torch.tensor([[0, 1], [2, 3]]), 8)
    assert (even.perplexity, even.share) == (pytest.approx(4.0), 0.5)
    # Shares 1/2, 1/4, 1/4 have an entropy of 3/2 bits.
    assert codebook_usage(torch.tensor([5, 5, 1, 0]), 6).perplexity == pytest.approx(2**1.5)
    for wrong in (torch.tensor([8]), torch.tensor([-1]), torch.tensor([], dtype=torch.int64)):
        with pytest.raises(ValueError, match="from 0 to 7"):
            codebook_usage(wrong, 8)
