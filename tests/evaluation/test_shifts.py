"""Distances on an endless white plane, against the plainest way to write them down."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from latentbrush.evaluation import nearest
from latentbrush.evaluation.nearest import identical_groups, shifted_distances


def random_pictures(count: int, height: int, width: int, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=draws)


def on_plane(picture: Tensor, shift: int, dx: int, dy: int) -> np.ndarray:
    """So much of the plane that nothing leaves it."""
    _, height, width = picture.shape
    plane = np.full((3, height + 4 * shift, width + 4 * shift), 255, dtype=np.int64)
    top, left = 2 * shift + dy, 2 * shift + dx
    plane[:, top : top + height, left : left + width] = picture.numpy()
    return plane


def slow_distance(painted: Tensor, original: Tensor, shift: int) -> int:
    moves = range(-shift, shift + 1)
    there = on_plane(original, shift, 0, 0)
    return min(int(((on_plane(painted, shift, dx, dy) - there) ** 2).sum()) for dx in moves for dy in moves)


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_all_distances_are_exact(shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "AT_ONCE", 2)  # five originals in three portions
    painted, originals = random_pictures(3, 5, 4, seed=0), random_pictures(5, 5, 4, seed=1)
    originals[4, :, 2:] = 255
    expected = [[slow_distance(one, other, shift) for other in originals] for one in painted]
    assert shifted_distances(painted, originals, shift).tolist() == expected
    assert shifted_distances(originals, painted, shift).T.tolist() == expected  # from either picture


def test_shifts_up_to_three_cost_nothing_and_further_ones_do() -> None:
    original = torch.full((1, 3, 16, 16), 255, dtype=torch.uint8)
    original[..., 5:9, 6:10] = random_pictures(1, 4, 4, seed=2)
    for dx, dy in [(0, 0), (3, -3), (-3, 2), (1, 3)]:
        assert shifted_distances(original.roll((dy, dx), (2, 3)), original).item() == 0
    for dx, dy in [(4, 0), (0, -4)]:
        assert shifted_distances(original.roll((dy, dx), (2, 3)), original).item() > 0


def test_what_moves_past_the_edge_still_counts() -> None:
    # Cut off, the black column would be gone at dx = 1 and the painting would be the white original.
    painted = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    painted[..., 3] = 0
    white = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    assert shifted_distances(painted, white).item() == 3 * 4 * 255**2


def test_near_twins_are_told_apart_where_float32_could_not() -> None:
    dark = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    twins = dark.repeat(3, 1, 1, 1)
    for i, value in enumerate((2, 0, 1)):
        twins[i, 0, 0, 0] = value
    assert shifted_distances(dark, twins).tolist() == [[4, 0, 1]]


def test_identical_pictures_share_a_group() -> None:
    pictures = random_pictures(3, 2, 2, seed=3)
    assert identical_groups(pictures[[0, 1, 0, 2, 1]]).tolist() == [0, 1, 0, 2, 1]


def test_unlike_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 4\) .*\(1, 3, 4, 5\)"):
        shifted_distances(random_pictures(1, 4, 4, 0), random_pictures(1, 4, 5, 0))
