"""KID and CMMD against sums written out, torchmetrics, and what they must be of sets of one kind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from latentbrush import UserError
from latentbrush.evaluation import clip_mmd, kernel, kernel_distance, kid
from latentbrush.evaluation.kernel import clip_mmd_deviation, kernel_deviation

pytestmark = pytest.mark.capability("kid")


def features(count: int, width: int = 8, seed: int = 0, shift: float = 0.0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_against_torchmetrics_and_the_sums_written_out(shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = features(40), features(40, seed=1, shift=shift)
    monkeypatch.setattr(kernel, "AT_ONCE", 7)  # strips that do not divide the rows
    found = kernel_distance(x, y)
    assert found == pytest.approx(float(poly_mmd(x, y, degree=3, gamma=None, coef=1.0)), rel=1e-9)

    def k(a: Tensor, b: Tensor) -> float:
        return float((a @ b / 8 + 1) ** 3)

    own = [sum(k(s[i], s[j]) for i in range(40) for j in range(40) if i != j) / (40 * 39) for s in (x, y)]
    cross = sum(k(a, b) for a in x for b in y) / 1600
    assert found == pytest.approx(own[0] + own[1] - 2 * cross, rel=1e-9)


def test_sets_of_one_kind_are_at_zero_in_the_mean_whatever_their_sizes() -> None:
    for n, m in ((5, 5), (4, 12)):
        values = torch.tensor(
            [kernel_distance(features(n, seed=2 * i), features(m, seed=2 * i + 1)) for i in range(600)]
        )
        error = float(values.std()) / 600**0.5
        assert abs(float(values.mean())) < 3 * error
        assert float(values.min()) < 0  # else it would not be unbiased


def test_kid_is_the_mean_over_subsets_with_their_deviation() -> None:
    x, y = features(300), features(200, seed=1, shift=0.4)
    value, deviation = kid(x, y, subsets=50, size=100)
    # Fifty subsets, though they overlap, come nearer to the whole than one does.
    assert value == pytest.approx(kernel_distance(x, y), abs=deviation)
    assert 0 < deviation < value
    assert kid(x, y, subsets=50, size=100) == (value, deviation)
    assert kid(x, y, subsets=50, size=100, seed=1) != (value, deviation)
    assert kid(x, y, subsets=1, size=100)[1] == 0


def test_cmmd_as_written_out() -> None:
    x, y = features(30), features(20, seed=1, shift=0.5)
    a, b = (s / s.norm(dim=1, keepdim=True) for s in (x, y))

    def mean(p: Tensor, q: Tensor) -> float:
        return float(sum(torch.exp(-(u - v).square().sum() / 200) for u in p for v in q)) / (len(p) * len(q))

    assert clip_mmd(x, y) == pytest.approx(1000 * (mean(a, a) + mean(b, b) - 2 * mean(a, b)), rel=1e-9)
    assert clip_mmd(x, x * 3) == pytest.approx(0, abs=1e-9)


def test_what_cannot_be_measured_is_refused() -> None:
    x = features(20)
    with pytest.raises(
        UserError, match="subsets of 1000 pictures, but there are 20 and 20; choose a subset size of at"
    ):
        kid(x, x)
    with pytest.raises(UserError, match="0 subsets of 5"):
        kid(x, x, subsets=0, size=5)
    for measure in (kernel_distance, clip_mmd):
        with pytest.raises(UserError, match="features of 8 and of 3 numbers"):
            measure(x, features(20, 3))
        with pytest.raises(UserError, match="there are 1 and 20 pictures"):
            measure(x[:1], x)
        with pytest.raises(UserError, match="not finite"):
            measure(x, x / 0)
        with pytest.raises(ValueError, match="must be"):
            measure(x[0], x)


@pytest.mark.parametrize("shift", [0.0, 0.6])
def test_the_deviation_is_that_of_other_pictures(shift: float) -> None:
    """Over sets drawn anew, beside one that stays: of one kind, where only pairs count, and of another."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(300, 6, generator=generator, dtype=torch.float64)
    sets = [torch.randn(60, 6, generator=generator, dtype=torch.float64) + shift for _ in range(200)]
    for value, deviation in ((kernel_distance, kernel_deviation), (clip_mmd, clip_mmd_deviation)):
        true = float(torch.tensor([value(one, real) for one in sets]).std())
        told = float(torch.tensor([deviation(one, real) for one in sets]).median())
        assert 0.8 < told / true < 1.35, (value.__name__, told, true)
