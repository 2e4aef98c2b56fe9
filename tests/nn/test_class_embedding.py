"""Class labels: an embedding added to the time's, and every label that cannot be is refused with the numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from latentbrush.nn import Condition, UNet, UNetConfig

pytestmark = pytest.mark.capability("class-embedding")

TINY: dict[str, Any] = {
    "sample_size": 4,
    "channels": (8, 16),
    "layers_per_block": 1,
    "attention": (True, False),
    "heads": (2, 4),
    "depth": (1, 1),
    "context_width": 6,
    "groups": 4,
}


def make_unet(classes: int | None) -> UNet:
    torch.manual_seed(0)
    unet = UNet(UNetConfig(**TINY, classes=classes))
    for parameter in unet.parameters():  # its output is zero at first
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    return unet.eval()


def ask(unet: UNet, classes: list[int] | None) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x, context = torch.randn(1, 4, 4, 4, generator=generator), torch.randn(1, 5, 6, generator=generator)
    labels = None if classes is None else torch.tensor(classes)
    with torch.no_grad():
        condition = Condition(context.expand(2, -1, -1), labels)
        out: Tensor = unet(x.expand(2, -1, -1, -1), torch.tensor([7.0, 7.0]), condition)
    return out


def test_pictures_differ_by_their_labels_alone() -> None:
    same, other = ask(make_unet(3), [1, 1]), ask(make_unet(3), [1, 2])
    torch.testing.assert_close(same[0], same[1])
    torch.testing.assert_close(same[0], other[0])
    assert (other[0] - other[1]).abs().max() > 1e-3


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_labels_out_of_range_are_refused(labels: list[int]) -> None:
    with pytest.raises(ValueError, match=rf"labels from {min(labels)} to {max(labels)} .* the UNet has 0 to 2"):
        ask(make_unet(3), labels)


def test_missing_and_needless_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="has 3 classes, but was given no labels"):
        ask(make_unet(3), None)
    with pytest.raises(ValueError, match="has no classes, but was given 2 labels"):
        ask(make_unet(None), [0, 1])


def test_a_unet_has_at_least_one_class() -> None:
    with pytest.raises(ValueError, match="UNet classes 0 must be at least 1"):
        UNetConfig(**TINY, classes=0)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (torch.zeros(3, dtype=torch.int64), r"labels \(3,\) do not fit the context's batch of 2"),
        (torch.zeros(2, 1, dtype=torch.int64), r"labels \(2, 1\) do not fit"),
        (torch.zeros(2), "whole numbers, not torch.float32"),
        (torch.zeros(2, dtype=torch.bool), "whole numbers, not torch.bool"),
    ],
)
def test_a_condition_has_one_whole_label_a_picture(labels: Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Condition(torch.zeros(2, 5, 6), labels)


def test_joined_conditions_keep_their_labels_in_order() -> None:
    context = torch.zeros(2, 5, 6)
    first, second = Condition(context, torch.tensor([1, 2])), Condition(context, torch.tensor([3, 4]))
    joined = Condition.cat([first, second]).classes
    assert joined is not None
    assert joined.tolist() == [1, 2, 3, 4]
    assert Condition.cat([Condition(context)] * 2).classes is None
    with pytest.raises(ValueError, match="1 of 2 conditions have class labels; needed are all or none"):
        Condition.cat([first, Condition(context)])
