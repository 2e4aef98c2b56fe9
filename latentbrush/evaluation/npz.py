"""numpy's .npz read as data: each array's header first, and no more than it states. Nothing is unpickled."""

from __future__ import annotations

import lzma
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latentbrush.errors import UserError, short

__all__ = ["Npz", "NpzArray"]

LONGEST_HEADER = 2**14
# All that zipfile lets out for a damaged file, one that is encrypted, or compressed in an unknown way; and numpy, which
# reads headers as Python's own literals.
BROKEN = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, ValueError, EOFError, RuntimeError),
    *(SyntaxError, tokenize.TokenError, MemoryError, TypeError, OverflowError, IndexError, KeyError),
)


class NpzArray:
    """One array, its header read: `shape` and `dtype`. Its numbers are read once, `whole` or by `rows`."""

    def __init__(self, path: Path, name: str, file: Any, stated: int) -> None:
        """`stated`: bytes of the member, by the archive's list."""
        self._path, self._name, self._file = path, name, file
        try:
            self.shape, by_columns, self.dtype = _header(file)
            if self.dtype.hasobject:
                raise ValueError("it holds Python objects, which could run code")
            if any(side < 0 for side in self.shape):
                raise ValueError(f"its shape {self.shape} is none")
            if not self.dtype.itemsize:
                raise ValueError(f"its numbers are {self.dtype}, of no bytes")
            needed = file.tell() + self.size * self.dtype.itemsize
            if needed != stated:
                raise ValueError(f"it has {stated} bytes, not {needed}")
            # Of a matrix by columns the rows are the other's; of more axes nobody here writes one.
            self._turned = by_columns and len(self.shape) == 2
            if by_columns and len(self.shape) > 2:
                raise ValueError("it is stored by columns")
        except BROKEN as error:
            raise self._refusal(error) from None

    def _refusal(self, error: Exception) -> UserError:
        reason = str(error) or type(error).__name__
        return UserError(f"{self._path}: {short(self._name)} cannot be read ({reason}); copy or download it again")

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def whole(self) -> npt.NDArray[Any]:
        values = self._take(self.size)
        return values.reshape(self.shape[::-1]).T.copy() if self._turned else values.reshape(self.shape)

    def rows(self, most: int) -> Iterator[npt.NDArray[Any]]:
        """Along the first axis, at most so many at a time."""
        assert not self._turned
        each = math.prod(self.shape[1:])
        for start in range(0, self.shape[0], most):
            count = min(most, self.shape[0] - start)
            yield self._take(count * each).reshape(count, *self.shape[1:])

    def _take(self, count: int) -> npt.NDArray[Any]:
        wanted = count * self.dtype.itemsize
        try:
            content = bytearray(self._file.read(wanted))
            if len(content) < wanted:
                raise ValueError("it ends too early")
        except BROKEN as error:
            raise self._refusal(error) from None
        values = np.frombuffer(content, self.dtype, count)
        return values.astype(self.dtype.newbyteorder("="), copy=False)


class Npz:
    """An open .npz; `names`: of its arrays. UserError for what is no such file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except BROKEN as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise UserError(f"{path} is no sound .npz file ({reason}); give one of statistics") from None
        members = [info for info in self._archive.infolist() if info.filename.endswith(".npy")]
        self._members = {info.filename.removesuffix(".npy"): info for info in members}
        self.names = frozenset(self._members)
        if len(self.names) < len(members):
            self._archive.close()
            raise UserError(f"{path} has two arrays of one name; make it again")

    def __enter__(self) -> Npz:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def open(self, name: str) -> NpzArray:
        info = self._members[name]
        try:
            file = self._archive.open(info)
        except BROKEN as error:
            raise UserError(f"{self.path}: {short(name)} cannot be read ({error}); copy it again") from None
        return NpzArray(self.path, name, file, info.file_size)


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is stored by columns, type. ValueError for what numpy did not write.

    `file`: a ZipExtFile, which can look ahead.
    """
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"it is of version {version[0]}.{version[1]}, known are 1.0 and 2.0")
    stated = int.from_bytes(file.peek(4)[: 2 * version[0]], "little")  # numpy reads the header before it measures it
    if stated > LONGEST_HEADER:
        raise ValueError(f"its header has {stated} bytes, at most {LONGEST_HEADER} are read")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python 2's headers, and of the literals that are no headers
        shape, by_columns, dtype = readers[version](file, max_header_size=LONGEST_HEADER)
    return shape, by_columns, dtype
