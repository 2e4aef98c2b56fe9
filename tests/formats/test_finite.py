"""What is not finite is seen wherever it stands, whatever it is; what is finite is never refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latentbrush.errors import UserError
from latentbrush.formats.finite import AT_ONCE, all_finite
from latentbrush.formats.store import open_tensors
from latentbrush.formats.weights import as_finite

pytestmark = pytest.mark.capability("strict-loading")

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_half_of_16_bits_and_the_edges_of_the_others(dtype: torch.dtype) -> None:
    """All patterns of the exponent, with both signs, and the first, last and some more of what follows it."""
    kind = INTEGERS[dtype.itemsize]
    width, bits = torch.finfo(dtype), 8 * dtype.itemsize
    mantissa = round(-torch.tensor(width.eps, dtype=torch.float64).log2().item())
    high = torch.arange(2 ** (bits - 1 - mantissa), dtype=torch.int64) << mantissa
    low = torch.arange(2**mantissa) if bits == 16 else torch.tensor([0, 1, 2 ** (mantissa - 1), 2**mantissa - 1])
    patterns = (high[:, None] | low).flatten()
    signs = torch.tensor([0, -(2 ** (bits - 1))])
    values = (patterns[:, None] | signs).flatten().to(kind).view(dtype)
    finite = values.isfinite()
    assert 0 < finite.sum() < len(values)
    assert all_finite(values[finite])
    for value in values[~finite][:: max(1, (~finite).sum() // 100)]:
        assert not all_finite(value)
        assert not all_finite(torch.stack([torch.zeros((), dtype=dtype), value]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_one_among_many(dtype: torch.dtype, wrong: float) -> None:
    step = AT_ONCE // dtype.itemsize
    numbers = torch.full((2 * step + 3,), -1.5, dtype=dtype)
    numbers[::7] = torch.finfo(dtype).max
    numbers[1::7] = torch.finfo(dtype).min
    assert all_finite(numbers)
    for place in (0, 1, step - 1, step, 2 * step - 1, 2 * step, len(numbers) - 1):
        kept = numbers[place].item()
        numbers[place] = wrong
        assert not all_finite(numbers)
        numbers[place] = kept
    assert all_finite(numbers)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.int64])
def test_of_any_shape(dtype: torch.dtype) -> None:
    assert all_finite(torch.empty(0, 3, dtype=dtype))
    assert all_finite(torch.ones((), dtype=dtype))
    assert all_finite(torch.ones(3, 4, dtype=dtype).t())
    assert all_finite(torch.nn.Parameter(torch.ones(3, 4, dtype=dtype), requires_grad=False))
    if dtype.is_floating_point:
        turned = torch.ones(3, 4, dtype=dtype).t()
        turned[2, 1] = float("nan")
        assert not all_finite(turned)
        assert not all_finite(torch.nn.Parameter(turned))
        assert all_finite(torch.nn.Parameter(torch.ones(5, dtype=dtype)))


def test_of_a_file_at_any_place(tmp_path: Path) -> None:
    """Tensors of safetensors need not begin where numbers of their type would."""
    path = tmp_path / "odd.safetensors"
    good = {"a": torch.ones(3, dtype=torch.float16), "b": torch.ones(1000), "c": torch.ones(5, dtype=torch.float64)}
    save_file({**good, "d": torch.tensor([1.0, float("nan")])}, path, {"x": "y"})
    file = open_tensors(path)
    for key, tensor in good.items():
        assert torch.equal(as_finite(file.entries[key], file.read(key)), tensor)
    with pytest.raises(UserError, match="d holds numbers that are not finite"):
        as_finite(file.entries["d"], file.read("d"))


def test_a_number_that_only_another_type_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    save_file({"a": torch.tensor([1.0, 1e30])}, path)
    file = open_tensors(path)
    assert as_finite(file.entries["a"], file.read("a"), torch.bfloat16).isfinite().all()
    with pytest.raises(UserError, match="too large for float16; load it as float32"):
        as_finite(file.entries["a"], file.read("a"), torch.float16)
