"""Memorisation: neighbours to the last bit, the rank statistic beside scipy's, and copies that are found."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.evaluation import memorisation as module
from latentbrush.evaluation.memorisation import (
    Neighbours,
    memorisation,
    nearest_training,
    rank_statistic,
)

pytestmark = pytest.mark.capability("memorisation")


def drawn(count: int, seed: int, width: int = 6) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_neighbours_are_those_of_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 4)
    features, train = drawn(11, 0), drawn(30, 1)
    found = nearest_training(features, train, 5)
    for i, feature in enumerate(features):
        distances = (train - feature).norm(dim=1)
        assert found.indices[i].tolist() == distances.argsort()[:5].tolist()
        torch.testing.assert_close(found.distances[i], distances.sort().values[:5])


def test_a_copy_is_at_0_however_far_from_the_origin() -> None:
    train = drawn(40, 0, 64) + 1e6
    found = nearest_training(train[[7, 3]], train, 3)
    assert found.indices[:, 0].tolist() == [7, 3]
    assert not found.distances[:, 0].any()
    assert found.ratio.tolist() == [0, 0]


def test_the_ratio_tells_one_near_picture_from_a_crowd() -> None:
    lonely, crowded = [0.1, 1.0, 1.0, 1.0], [0.1, 0.1, 0.1, 0.1]
    ratio = Neighbours(torch.tensor([lonely, crowded]).double(), torch.zeros(2, 4)).ratio
    assert ratio.tolist() == pytest.approx([0.1 / 0.775, 1])
    assert Neighbours(torch.zeros(1, 4).double(), torch.zeros(1, 4)).ratio.tolist() == [0]


@pytest.mark.parametrize("ties", [False, True])
def test_the_rank_statistic_is_scipys(ties: bool) -> None:
    first, second = drawn(40, 0)[:, 0], drawn(60, 1)[:, 0] + 0.3
    if ties:
        first, second = (first * 2).round(), (second * 2).round()
    oracle = stats.mannwhitneyu(first, second, use_continuity=False, method="asymptotic", alternative="less")
    found = rank_statistic(first, second)
    assert stats.norm.cdf(found) == pytest.approx(oracle.pvalue, rel=1e-9)
    assert found < 0 < rank_statistic(second, first)
    assert rank_statistic(torch.ones(9), torch.ones(9)) == 0


def test_new_pictures_are_no_copies_and_copies_are_found() -> None:
    train, held_out, new = (drawn(count, seed, 16) for seed, count in enumerate((400, 200, 200)))
    honest = memorisation(new, train, held_out)
    assert abs(honest.z) < 2.5
    assert 0.01 < honest.share < 0.11  # of 200, 10 are expected, within two and a half deviations
    painted = torch.cat([train[:60] + 1e-3 * drawn(60, 3, 16), new[:140]])
    copies = memorisation(painted, train, held_out)
    assert copies.z < -3
    assert copies.share > 0.3
    assert copies.paintings.indices[:60, 0].tolist() == list(range(60))
    assert (copies.paintings.ratio[:60] < 0.5).all()
    assert (copies.held_out.ratio < 0.5).double().mean() < 0.1


def test_far_away_paintings_are_no_copies_either() -> None:
    assert memorisation(drawn(100, 2) * 3, drawn(400, 0), drawn(100, 1)).z > 3


def test_about_alpha_of_the_held_out_pictures_lies_below_the_threshold() -> None:
    held_out = drawn(200, 1)
    same = memorisation(held_out, drawn(400, 0), held_out, alpha=0.1)
    assert same.share == pytest.approx(0.1)
    assert same.z == 0


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ((20, 60, 19), {}, "19 held-out pictures are too few for the quantile 0.05; give at least 20"),
        ((7, 60, 20), {}, "7 paintings are too few"),
        ((20, 49, 20), {}, "50 neighbours are asked for, but there are 49 training pictures"),
        ((20, 60, 20), {"alpha": 0.0}, "alpha is 0.0"),
    ],
)
def test_too_few_are_refused(sizes: tuple[int, int, int], options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        memorisation(*(drawn(n, i) for i, n in enumerate(sizes)), **options)  # type: ignore[arg-type]


def test_unlike_features_are_refused() -> None:
    with pytest.raises(UserError, match="take both by one extractor"):
        nearest_training(drawn(3, 0), drawn(3, 0, 5))
    with pytest.raises(UserError, match="not finite"):
        nearest_training(drawn(3, 0) * torch.nan, drawn(3, 0))
