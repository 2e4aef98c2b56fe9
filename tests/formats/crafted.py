"""Checkpoints made by hand, to be read whole or refused."""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from latentbrush.errors import LONGEST, UserError
from latentbrush.formats.store import TensorFile, open_tensors

STATE = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.ones(3).half(), "b": torch.tensor(2)}


def refusal(path: Path, *parts: str) -> str:
    with pytest.raises(UserError) as caught:
        read_all(open_tensors(path))
    line = str(caught.value)
    for part in (path.name, *parts):
        assert part in line
    assert line.isprintable()
    assert len(line) < LONGEST + 10
    return line


def read_all(file: TensorFile) -> dict[str, torch.Tensor]:
    return {key: file.read(key) for key in file.entries}


def archive(path: Path, pickled: bytes, *, method: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    """What torch.save writes, around a pickle of our own."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("archive/data.pkl", pickled)
        for name, content in members.items():
            file.writestr(f"archive/{name.replace('_', '/')}", content)
    return path


class Call:
    """Pickled, a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


class Storage:
    """Pickled, a reference to a storage."""

    def __init__(self, kind: Any, key: str, count: int, *more: Any) -> None:
        self.identity = ("storage", kind, key, "cpu", count, *more)


def dumped(content: Any) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return value.identity if isinstance(value, Storage) else None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue()


def view(offset: int, shape: Any, strides: Any, kind: Any = torch.FloatStorage, key: str = "0") -> Call:
    return view_in(Storage(kind, key, 4), offset, shape, strides)


def view_in(storage: Storage, offset: int, shape: Any, strides: Any) -> Call:
    rebuild = torch._utils._rebuild_tensor_v2
    return Call(rebuild, storage, offset, shape, strides, False, collections.OrderedDict())
