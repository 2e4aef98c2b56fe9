"""The linear layer against torch's own: numbers, gradients, and in which cases it takes which way."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from latentbrush.nn.linear import LEAST_ROWS, Linear

pytestmark = pytest.mark.capability("unet", "clip-text")


def pair(bias: bool = True) -> tuple[Linear, nn.Linear]:
    torch.manual_seed(0)
    ours, theirs = Linear(24, 40, bias=bias), nn.Linear(24, 40, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 77, 24), (64, 24), (3, 5, 7, 24), (LEAST_ROWS - 1, 24), (0, 24), (24,)])
def test_is_torchs_forwards_and_backwards(shape: tuple[int, ...], bias: bool) -> None:
    ours, theirs = pair(bias)
    x, y = (torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    found, expected = ours(x), theirs(y)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert found.shape == (*shape[:-1], 40)
    assert found.is_contiguous()
    found.square().sum().backward()
    expected.square().sum().backward()
    for mine, other in zip((x, *ours.parameters()), (y, *theirs.parameters()), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_strided_rows_are_read_as_they_lie() -> None:
    ours, theirs = pair()
    x = torch.randn(24, 3, 50).movedim(0, -1)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "dtype", "times"),
    [
        (LEAST_ROWS, torch.float32, 1),
        (LEAST_ROWS - 1, torch.float32, 0),
        (LEAST_ROWS, torch.float64, 0),
        (LEAST_ROWS, torch.bfloat16, 0),
    ],
)
def test_convolves_only_where_that_is_faster(rows: int, dtype: torch.dtype, times: int) -> None:
    ours = pair()[0].to(dtype)
    with mock.patch.object(F, "conv2d", wraps=F.conv2d) as conv2d, torch.no_grad():
        ours(torch.zeros(rows, 24, dtype=dtype))
    assert conv2d.call_count == times


def test_without_memory() -> None:
    with torch.device("meta"):
        assert Linear(24, 40)(torch.empty(64, 24)).shape == (64, 40)
