"""Files of `torch.save` (.ckpt, .pt, .bin; since torch 1.6 a zip archive), read as data: nothing is unpickled.

    NAME/data.pkl   NAME/data/0   NAME/data/1   ...   NAME/byteorder   NAME/version

The pickle names tensors by storage, offset, size and stride; each storage is a stored, never compressed, member.
"""

from __future__ import annotations

import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.formats.opcodes import Global, Made, read_pickle

__all__ = ["TensorView", "TorchZip"]

MOST_PICKLE = 2**24
"""Bytes of data.pkl; that of Stable Diffusion 1 with an optimiser's state has about a tenth."""
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
ORDERED, TENSOR = Global("collections", "OrderedDict"), Global("torch._utils", "_rebuild_tensor_v2")
PARAMETER = Global("torch._utils", "_rebuild_parameter")
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
# All that zipfile lets out for a damaged archive.
BAD_ZIP = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(OSError, ValueError, RuntimeError, EOFError, OverflowError, IndexError, KeyError),
)


@dataclass(frozen=True)
class TensorView:
    """A tensor as the pickle describes it, in numbers of its storage's type."""

    member: str
    kind: str
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class TorchZip:
    """The object that torch.save wrote, its tensors still in the file.

    `root`: what the pickle holds, with `Made` and `Persistent` in it. UserError, naming file and reason, for
    what is damaged, too large for its file, asks for code, or was written by something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
                self._members = {info.filename: info for info in infos}
                self._folder = self._check(infos)
                self.root = read_pickle(archive.read(self._folder + "data.pkl"), _allowed)
        except BAD_ZIP as error:
            raise self._refusal(error) from None

    def _refusal(self, reason: object) -> UserError:
        text = str(reason) or type(reason).__name__
        return UserError(f"{self.path} is no sound torch.save file ({text}); copy or download it again")

    def _check(self, infos: list[zipfile.ZipInfo]) -> str:
        """The archive's one folder. ValueError for what torch.save does not write."""
        whole = self.path.stat().st_size
        if len(self._members) != len(infos):
            raise ValueError("two of its members have one name")
        if any(name.partition("/")[2].startswith("code/") for name in self._members):
            raise ValueError("it is a TorchScript program, which holds code")
        for info in infos:
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise ValueError(f"{info.filename} is compressed, as torch.save never writes it")
            if info.file_size + info.header_offset > whole:
                raise ValueError(f"{info.filename} says it has {info.file_size} bytes, the whole file has {whole}")
        pickles = [name for name in self._members if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise ValueError("there is no data.pkl in it; it is another kind of zip archive")
        folder = pickles[0].removesuffix("data.pkl")
        if self._members[pickles[0]].file_size > MOST_PICKLE:
            raise ValueError(f"its data.pkl has more than {MOST_PICKLE} bytes")
        return folder

    def view(self, value: Any) -> TensorView | None:
        """The tensor that a part of `root` describes; None if it is none. UserError for one that cannot be."""
        if isinstance(value, Made) and value.function == PARAMETER:
            value = value.arguments[0] if value.arguments else None
        if not isinstance(value, Made) or value.function != TENSOR:
            return None
        try:
            storage, offset, shape, strides = value.arguments[:4]
            _, kind, key, _, _ = storage.identity
            name, dtype = STORAGES[kind.name]
            member = f"{self._folder}data/{key}"
            capacity = self._members[member].file_size // dtype.itemsize
        except (ValueError, TypeError, KeyError, AttributeError):
            raise self._refusal("it describes a tensor in no known way") from None
        if not isinstance(shape, tuple) or not isinstance(strides, tuple) or not len(shape) == len(strides) <= 8:
            raise self._refusal("it describes a tensor in no known way")
        numbers = (offset, *shape, *strides)
        if not all(type(number) is int and 0 <= number < 2**48 for number in numbers):
            raise self._refusal("it describes a tensor in no known way")
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        # A view of a few numbers may repeat them without end; weights never do.
        if math.prod(shape) > capacity or (math.prod(shape) and last >= capacity):
            raise self._refusal(f"a tensor of {list(shape)} is larger than the {capacity} numbers it is a view of")
        return TensorView(member, name, dtype, offset, shape, strides)

    def read(self, view: TensorView) -> Tensor:
        """The numbers, mapped from the file; whoever changes them does not change it. UserError if they are damaged."""
        info = self._members[view.member]
        if not info.file_size:
            return torch.empty(view.shape, dtype=view.dtype)
        try:
            with self.path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
                begin = self._begin(mapped, info)
            data = memoryview(mapped)[begin : begin + info.file_size]
            if zlib.crc32(data) != info.CRC:
                raise ValueError(f"the checksum of {view.member} is wrong")
        except (OSError, ValueError) as error:
            raise self._refusal(error) from None
        aligned = data if begin % view.dtype.itemsize == 0 else bytearray(data)
        count = info.file_size // view.dtype.itemsize
        storage = torch.frombuffer(aligned, dtype=view.dtype, count=count)
        return storage.as_strided(view.shape, view.strides, view.offset)

    def _begin(self, mapped: mmap.mmap, info: zipfile.ZipInfo) -> int:
        """Where a member's bytes begin: behind its own header, whose length the archive's list does not know."""
        header = mapped[info.header_offset : info.header_offset + 30]
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise ValueError(f"{info.filename} has no header")
        begin = info.header_offset + 30 + int.from_bytes(header[26:28], "little")
        begin += int.from_bytes(header[28:30], "little")
        if begin + info.file_size > len(mapped):
            raise ValueError(f"{info.filename} is cut")
        return begin


def _allowed(found: Global) -> bool:
    if found in (ORDERED, TENSOR, PARAMETER) or found in BESIDE:
        return True
    if found.module in ("torch", "torch.storage"):
        return found.name in STORAGES
    return f"{found.module}.".startswith(TRAINERS) and "." not in found.name
