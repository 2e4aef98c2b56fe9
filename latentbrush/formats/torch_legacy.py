"""Files of `torch.save` from before torch 1.6, read as data: nothing is unpickled.

Five pickles and then the numbers, nothing between them:

    a magic number   the protocol's version   how the computer wrote numbers   the object   its storages' keys
    for each key: how many numbers, in 8 bytes, and they

The object's pickle names tensors by storage, offset, size and stride. There are no checksums.
"""

from __future__ import annotations

import io
import mmap
from pathlib import Path
from typing import Any

from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.formats.opcodes import Persistent, read_pickle
from latentbrush.formats.torch_views import MOST_PICKLE, Storage, TensorView, allowed, storage_of, strided, view_of

__all__ = ["MARK", "TorchLegacy"]

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MARK = b"\x8a\x0a" + MAGIC.to_bytes(10, "little")
"""How a pickle writes that number: among the first bytes of every such file."""
COUNT = 8
"""Bytes that say how many numbers a storage has."""


class TorchLegacy:
    """The object that torch.save wrote, its tensors still in the file.

    `root`: what the pickle holds, with `Made` and `Persistent` in it. UserError, naming file and reason, for
    what is damaged, longer or shorter than it says, asks for code, or was written by something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mapping: mmap.mmap | None = None
        self._given: set[str] = set()
        try:
            with path.open("rb") as file:
                head = io.BytesIO(file.read(MOST_PICKLE))
                self._check_head(head)
                found: list[Persistent] = []
                self.root = read_pickle(head, allowed, found)
                storages = _by_key(found)
                keys = read_pickle(head, _nothing)
                file.seek(head.tell())
                self._places = self._placed(file, storages, keys)
        except (OSError, ValueError) as error:
            raise self._refusal(error) from None

    def _refusal(self, reason: object) -> UserError:
        text = str(reason) or type(reason).__name__
        return UserError(
            f"{self.path} is no sound torch.save file of before torch 1.6 ({text}); copy or download it again"
        )

    def _check_head(self, head: io.BytesIO) -> None:
        magic, protocol, system = (read_pickle(head, _nothing) for _ in range(3))
        if type(magic) is not int or magic != MAGIC:
            raise ValueError("it does not begin with the magic number")
        if type(protocol) is not int or protocol != PROTOCOL:
            raise ValueError(f"its protocol is not {PROTOCOL}, the only one there was")
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise ValueError("it was written on a big-endian computer, and such numbers are not read")

    def _placed(self, file: io.BufferedReader, storages: dict[str, Storage], keys: Any) -> dict[str, tuple[int, int]]:
        """Key -> where a storage's bytes begin, and how many numbers it has; all bytes of the file accounted for."""
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ValueError("it has no list of its storages")
        if len(set(keys)) < len(keys) or set(keys) != storages.keys():
            raise ValueError("its list of storages is not that of its tensors")
        whole, begin, places = self.path.stat().st_size, file.tell(), {}
        for key in keys:
            file.seek(begin)
            storage, count = storages[key], int.from_bytes(file.read(COUNT), "little", signed=True)
            if count != storage.count:
                raise ValueError(f"a storage of {storage.count} numbers says that it has {count}")
            places[key] = (begin + COUNT, count)
            begin += COUNT + count * storage.dtype.itemsize
            if begin > whole:
                raise ValueError(f"it ends after {whole} bytes, within its storages, and should have more")
        if begin < whole:
            raise ValueError(f"it has {whole - begin} bytes behind its last storage")
        return places

    def view(self, value: Any) -> TensorView | None:
        """The tensor that a part of `root` describes; None if it is none. UserError for one that cannot be."""
        try:
            return view_of(value, lambda storage: (storage.key, self._places[storage.key][1]))
        except ValueError as error:
            raise self._refusal(error) from None

    def read(self, view: TensorView) -> Tensor:
        """The numbers: mapped from the file, or copied where they do not lie as this computer wants them or their
        storage was read before. Whoever changes them does not change the file. UserError if it became
        shorter, or torch makes no such tensor.
        """
        try:
            return self._tensor(view)
        except (OSError, ValueError, RuntimeError) as error:
            raise self._refusal(error) from None

    def _tensor(self, view: TensorView) -> Tensor:
        if view.last < view.offset:
            return strided(b"", view, 0)
        width = view.dtype.itemsize
        begin = self._places[view.member][0] + view.offset * width
        end = begin + (view.last - view.offset + 1) * width
        if self._mapping is None:  # once: every mapping would keep an open file of its own
            with self.path.open("rb") as file:
                self._mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        if end > len(self._mapping) or end > self.path.stat().st_size:
            raise ValueError("it was cut after it was opened")
        data = memoryview(self._mapping)[begin:end]
        again = view.member in self._given
        self._given.add(view.member)
        return strided(bytearray(data) if again or begin % width else data, view, view.offset)


def _nothing(found: object) -> bool:
    return False


def _by_key(found: list[Persistent]) -> dict[str, Storage]:
    """ValueError where two tensors disagree about the storage that they share."""
    storages: dict[str, Storage] = {}
    for storage in map(storage_of, found):
        known = storages.setdefault(storage.key, storage)
        if (known.dtype, known.count) != (storage.dtype, storage.count):
            raise ValueError("two of its tensors describe one storage in two ways")
    return storages
