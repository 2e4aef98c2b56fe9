"""The accuracy of the nearest original, on sets made for it."""

import pytest
import torch
from torch import Tensor

from latentbrush.evaluation import nearest_accuracy


def flat(*values: int) -> Tensor:
    """Pictures of one value each, 0 to 255: uint8 (N, 3, 2, 2)."""
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)


def painted(*values: float) -> Tensor:
    """The same as paintings, in [-1, 1]."""
    return (torch.tensor(values)[:, None, None, None].expand(-1, 3, 2, 2)) / 127.5 - 1.0


ORIGINALS = flat(0, 100, 200)


@pytest.mark.parametrize(
    ("values", "wanted", "share"),
    [
        ((0.0, 100.0, 200.0), (0, 1, 2), 1.0),
        ((49.0, 149.0, 250.0), (0, 1, 2), 1.0),  # nearest, though not equal
        ((51.0, 151.0, 250.0), (0, 1, 2), 1 / 3),
        ((0.0, 100.0, 200.0), (1, 2, 0), 0.0),
        ((100.0, 100.0), (1, 0), 0.5),
        ((-900.0, 900.0), (0, 2), 1.0),  # colours beyond the range are shown, and so compared, at its ends
    ],
)
def test_shares(values: tuple[float, ...], wanted: tuple[int, ...], share: float) -> None:
    assert nearest_accuracy(painted(*values), ORIGINALS, torch.tensor(wanted)) == pytest.approx(share)


def test_identical_originals_are_one() -> None:
    # Both flags of an island and of its country: whichever of the two comes first, asking for either is met.
    twins = flat(0, 100, 0)
    assert nearest_accuracy(painted(3.0, 3.0, 3.0), twins, torch.tensor([0, 2, 1])) == pytest.approx(2 / 3)


def test_distance_is_that_of_all_pixels() -> None:
    # One pixel of 16 off by 155 lies as far away as all of them off by 155 / 4 = 39: between 20 and 60.
    originals = torch.full((2, 3, 4, 4), 100, dtype=torch.uint8)
    originals[0, :, 0, 0] = 255
    originals[1] = 120
    assert nearest_accuracy(painted_like(100, 4), originals, torch.tensor([1])) == 1.0
    originals[1] = 160
    assert nearest_accuracy(painted_like(100, 4), originals, torch.tensor([0])) == 1.0


def painted_like(value: float, side: int) -> Tensor:
    return torch.full((1, 3, side, side), value / 127.5 - 1.0)


@pytest.mark.parametrize(
    ("one", "other", "wanted", "said"),
    [
        (torch.zeros(2, 3, 4, 4), flat(0, 1), 2, r"\(2, 3, 4, 4\).*\(2, 3, 2, 2\)"),
        (torch.zeros(2, 3, 2, 2), flat(0, 1), 3, "2 paintings and 3 wanted"),
    ],
)
def test_unlike_sizes_are_refused(one: Tensor, other: Tensor, wanted: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        nearest_accuracy(one, other, torch.zeros(wanted, dtype=torch.int64))
