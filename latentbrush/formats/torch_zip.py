"""Files of `torch.save` (.ckpt, .pt, .bin; since torch 1.6 a zip archive), read as data: nothing is unpickled.

    NAME/data.pkl   NAME/data/0   NAME/data/1   ...   NAME/byteorder   NAME/version

The pickle names tensors by storage, offset, size and stride; each storage is a stored, never compressed, member.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.formats.opcodes import read_pickle
from latentbrush.formats.torch_views import MOST_PICKLE, Storage, TensorView, allowed, strided, view_of

__all__ = ["TorchZip"]

HEADER = 30
"""Bytes of a member's own header, without its name and what else may follow."""
# All that zipfile lets out for a damaged archive.
BAD_ZIP = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(OSError, ValueError, RuntimeError, EOFError, OverflowError, IndexError, KeyError),
)


class TorchZip:
    """The object that torch.save wrote, its tensors still in the file.

    `root`: what the pickle holds, with `Made` and `Persistent` in it. UserError, naming file and reason, for
    what is damaged, too large for its file, asks for code, or was written by something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mapping: mmap.mmap | None = None
        self._sound: set[str] = set()
        try:
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
                self._members = {info.filename: info for info in infos}
                self._folder = self._check(infos)
                self._ends = _ends(infos, path.stat().st_size)
                self.root = read_pickle(archive.read(self._folder + "data.pkl"), allowed)
                self._check_order(archive)
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
            if info.header_offset < 0:  # which would count from the file's end
                raise ValueError(f"{info.filename} lies {-info.header_offset} bytes before the file's beginning")
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

    def _check_order(self, archive: zipfile.ZipFile) -> None:
        """ValueError for numbers whose bytes lie the other way round."""
        name = self._folder + "byteorder"  # since torch 2.1
        if name in self._members and archive.read(name) != b"little":
            raise ValueError("it was written on a big-endian computer, and such numbers are not read")

    def view(self, value: Any) -> TensorView | None:
        """The tensor that a part of `root` describes; None if it is none. UserError for one that cannot be."""
        try:
            return view_of(value, self._place)
        except ValueError as error:
            raise self._refusal(error) from None

    def _place(self, storage: Storage) -> tuple[str, int]:
        member = f"{self._folder}data/{storage.key}"
        return member, self._members[member].file_size // storage.dtype.itemsize

    def read(self, view: TensorView) -> Tensor:
        """The numbers, mapped from the file, and copied if their storage was read before: no two tensors share memory.

        Whoever changes them does not change the file. UserError if they are damaged, or torch makes no such tensor.
        """
        try:
            return self._tensor(view, self._members[view.member])
        except (OSError, ValueError, RuntimeError) as error:
            raise self._refusal(error) from None

    def _tensor(self, view: TensorView, info: zipfile.ZipInfo) -> Tensor:
        if not info.file_size:
            return strided(b"", view, 0)
        mapped = self._mapped()
        begin = self._begin(mapped, info)
        data = memoryview(mapped)[begin : begin + info.file_size]
        if len(data) != info.file_size:
            raise ValueError(f"{view.member} has {len(data)} bytes, not {info.file_size}")
        again = view.member in self._sound
        if not again and zlib.crc32(data) != info.CRC:
            raise ValueError(f"the checksum of {view.member} is wrong")
        self._sound.add(view.member)
        if begin % view.dtype.itemsize:
            return strided(bytearray(data), view, 0)
        found = strided(data, view, 0)
        return found.clone() if again else found

    def _mapped(self) -> mmap.mmap:
        """The whole file, once: every mapping would keep an open file of its own, of which systems allow a thousand."""
        if self._mapping is None:
            with self.path.open("rb") as file:
                self._mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        return self._mapping

    def _begin(self, mapped: mmap.mmap, info: zipfile.ZipInfo) -> int:
        """Where a member's bytes begin: behind its own header, whose length the archive's list does not know."""
        header = mapped[info.header_offset : info.header_offset + HEADER]
        if len(header) < HEADER or header[:4] != b"PK\x03\x04":
            raise ValueError(f"{info.filename} has no header")
        begin = info.header_offset + HEADER + int.from_bytes(header[26:28], "little")
        begin += int.from_bytes(header[28:30], "little")
        if begin + info.file_size > len(mapped):
            raise ValueError(f"{info.filename} is cut")
        if begin + info.file_size > self._ends[info.filename]:
            raise ValueError(f"{info.filename} reaches into the next member")
        return begin


def _ends(infos: list[zipfile.ZipInfo], whole: int) -> dict[str, int]:
    """Member -> where the next one begins. ValueError where two have bytes in common: so would their tensors."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    ends = [*(info.header_offset for info in ordered[1:]), whole]
    for info, end in zip(ordered, ends, strict=True):
        if info.header_offset + HEADER + info.file_size > end:
            raise ValueError(f"{info.filename} reaches into the next member")
    return {info.filename: end for info, end in zip(ordered, ends, strict=True)}
