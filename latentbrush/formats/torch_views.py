"""What the pickles of torch.save say of tensors: which types, which part of which storage, in which order.

The two formats, a zip archive and the one before it, differ in where a storage lies and agree in all of this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentbrush.formats.opcodes import Global, Made, Persistent

__all__ = ["MOST_PICKLE", "Storage", "TensorView", "allowed", "storage_of", "strided", "view_of"]

MOST_PICKLE = 2**24
"""Bytes of a pickle; that of Stable Diffusion 1 with an optimiser's state has about a tenth."""
STORAGES: Mapping[str, tuple[str, torch.dtype]] = {
    "FloatStorage": ("F32", torch.float32),
    "HalfStorage": ("F16", torch.float16),
    "BFloat16Storage": ("BF16", torch.bfloat16),
    "DoubleStorage": ("F64", torch.float64),
    "LongStorage": ("I64", torch.int64),
    "IntStorage": ("I32", torch.int32),
    "ShortStorage": ("I16", torch.int16),
    "CharStorage": ("I8", torch.int8),
    "ByteStorage": ("U8", torch.uint8),
    "BoolStorage": ("BOOL", torch.bool),
}
"""torch's class -> safetensors' name of the type, and torch's."""
ORDERED, PARAMETER = Global("collections", "OrderedDict"), Global("torch._utils", "_rebuild_parameter")
# Before torch 0.4 gradients were no affair of tensors, and the function that made them had another name.
TENSORS = (Global("torch._utils", "_rebuild_tensor_v2"), Global("torch._utils", "_rebuild_tensor"))
# What trainers leave beside the weights: passed over, and never made.
BESIDE = frozenset(
    {
        *(Global(core, "scalar") for core in ("numpy.core.multiarray", "numpy._core.multiarray")),
        *(Global("numpy", name) for name in ("dtype", "ndarray")),
        *(Global("collections", name) for name in ("defaultdict", "Counter")),
        *(Global(module, name) for module in ("builtins", "__builtin__") for name in ("set", "dict", "list", "int")),
        Global("_codecs", "encode"),
        Global("argparse", "Namespace"),
        Global("torch", "Size"),
        Global("torch", "device"),
    }
)
TRAINERS = ("pytorch_lightning.callbacks.", "pytorch_lightning.utilities.", "lightning.pytorch.callbacks.")
MOST_NUMBERS, MOST_AXES = 2**48, 8


@dataclass(frozen=True)
class Storage:
    """What the pickle says of a storage: `count` numbers under `key`.

    `part`: the first and the number of those that are meant, where it shows a part of another (before torch 0.5).
    """

    kind: str
    dtype: torch.dtype
    key: str
    count: int
    part: tuple[int, int] | None = None


@dataclass(frozen=True)
class TensorView:
    """A tensor as the pickle describes it, in numbers of its storage's type."""

    member: str
    kind: str
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """Its bytes, once it is read."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def last(self) -> int:
        """The place of its last number; before the first where it has none."""
        if not math.prod(self.shape):
            return self.offset - 1
        return self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))


def allowed(found: Global) -> bool:
    """Whether weights may ask for it."""
    if found in (ORDERED, PARAMETER) or found in TENSORS or found in BESIDE:
        return True
    if found.module in ("torch", "torch.storage"):
        return found.name in STORAGES
    return f"{found.module}.".startswith(TRAINERS) and "." not in found.name


def storage_of(found: Persistent) -> Storage:
    """ValueError for what describes no storage."""
    try:
        tag, kind, key, _, count, *more = found.identity
        name, dtype = STORAGES[kind.name]
        part = None
        if more and more[0] is not None:
            _, first, size = more[0]
            part = (first, size)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError("it describes a storage in no known way") from None
    numbers = [count, *(part or ())]
    if tag != "storage" or not isinstance(key, str) or len(more) > 1 or not all(map(_is_count, numbers)):
        raise ValueError("it describes a storage in no known way")
    if part is not None and sum(part) > count:
        raise _part_too_large(part, count)
    return Storage(name, dtype, key, count, part)


def view_of(value: Any, place: Callable[[Storage], tuple[str, int]]) -> TensorView | None:
    """The tensor that a part of a pickle's content describes; None if it is none. ValueError for one that cannot be.

    `place`: where a storage lies and how many numbers it has there; KeyError where there is none.
    """
    if isinstance(value, Made) and value.function == PARAMETER:
        value = value.arguments[0] if value.arguments else None
    if not isinstance(value, Made) or value.function not in TENSORS:
        return None
    try:
        storage, offset, shape, strides = value.arguments[:4]
        found = storage_of(storage)
        member, capacity = place(found)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError("it describes a tensor in no known way") from None
    if not isinstance(shape, tuple) or not isinstance(strides, tuple) or not len(shape) == len(strides) <= MOST_AXES:
        raise ValueError("it describes a tensor in no known way")
    if not all(map(_is_count, (offset, *shape, *strides))):
        raise ValueError("it describes a tensor in no known way")
    if found.part is not None and sum(found.part) > capacity:
        raise _part_too_large(found.part, capacity)
    first, capacity = (0, capacity) if found.part is None else found.part
    view = TensorView(member, found.kind, found.dtype, offset, shape, strides)
    # A view of a few numbers may repeat them without end; weights never do.
    if math.prod(shape) > capacity or view.last >= capacity:
        raise ValueError(f"a tensor of {list(shape)} is larger than the {capacity} numbers it is a view of")
    return TensorView(member, found.kind, found.dtype, first + offset, shape, strides)


def _part_too_large(part: tuple[int, int], count: int) -> ValueError:
    return ValueError(f"a storage is a part of {part[1]} numbers from {part[0]} on of one with {count}")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < MOST_NUMBERS


def strided(data: bytes | bytearray | memoryview, view: TensorView, first: int) -> Tensor:
    """The tensor of a view, in the storage's bytes from its number `first` on; whoever changes it changes `data`.

    `data` must begin where numbers of its type may lie. ValueError and RuntimeError for what torch cannot make.
    """
    if view.last < view.offset:
        return torch.empty(view.shape, dtype=view.dtype)
    numbers = torch.frombuffer(data, dtype=view.dtype, count=len(data) // view.dtype.itemsize)
    return numbers.as_strided(view.shape, view.strides, view.offset - first)
