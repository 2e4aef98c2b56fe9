"""Whether all numbers of a tensor are finite, as fast as memory can be read: it is asked of every weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["all_finite"]

AT_ONCE = 2**20
"""Bytes looked at twice in a row, few enough for the processor's cache."""
BITS: dict[torch.dtype, tuple[torch.dtype, type[np.unsignedinteger[Any]], int]] = {
    torch.float16: (torch.int16, np.uint16, 0x7C00),
    torch.bfloat16: (torch.int16, np.uint16, 0x7F80),
    torch.float32: (torch.int32, np.uint32, 0x7F80_0000),
    torch.float64: (torch.int64, np.uint64, 0x7FF0_0000_0000_0000),
}
"""Type -> integers as wide, with a sign and without, and infinity's bits."""


def all_finite(tensor: Tensor) -> bool:
    """Exact, for any type; an empty tensor is. No copy is made of what lies contiguous in memory."""
    if not tensor.numel():
        return True
    if tensor.dtype in BITS and tensor.device.type == "cpu" and tensor.is_contiguous():
        return _below_infinity(tensor)
    low, high = tensor.aminmax()  # NaN, too, is a tensor's least and largest number
    return bool(low.isfinite() & high.isfinite())


def _below_infinity(tensor: Tensor) -> bool:
    """By bits: those of NaN are above infinity's. Without a sign, negative numbers are above all others.

    In one thread: that is as fast as memory is, where torch's would wait for one another at each of a model's thousand
    tensors, and longest where something else is at work.
    """
    kind, unsigned, infinity = BITS[tensor.dtype]
    signed: NDArray[Any] = tensor.detach().view(-1).view(kind).numpy()
    bits, step = signed.view(unsigned), AT_ONCE // tensor.element_size()
    below_zero = infinity | 1 << (8 * tensor.element_size() - 1)
    return all(
        int(signed[i : i + step].max()) < infinity and int(bits[i : i + step].max()) < below_zero
        for i in range(0, len(bits), step)
    )
