"""Sets of pictures that are read part by part: what metrics compare."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from latentbrush.data.folder import ImageFolder
from latentbrush.devices import memory_for
from latentbrush.errors import UserError
from latentbrush.evaluation.statistics_file import pictures_held, pictures_in

__all__ = ["FolderPictures", "NpzPictures", "PictureSet"]

READERS = 4
"""Threads that decode files; Pillow lets others run while it does."""


class PictureSet(Protocol):
    """Pictures of one size, in an order that stays."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def read(self, first: int, end: int) -> Tensor:
        """uint8 (end - first, 3, H, W)."""


class FolderPictures:
    """The pictures of a folder, with or without a metadata.jsonl; transparency lies on white.

    `size`: cut to the square in their middle and brought to so many pixels a side, as for training; None leaves them,
    and then all must be of one size, or `read` refuses the first that is not. `most`: an even selection of so many.
    UserError for an empty folder.
    """

    def __init__(self, folder: ImageFolder, size: int | None = None, most: int | None = None) -> None:
        self.folder, self.size = folder, size
        count = len(folder) if most is None else min(most, len(folder))
        self.indices = [i * len(folder) // count for i in range(count)]

    @property
    def name(self) -> str:
        return str(self.folder.directory)

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, first: int, end: int) -> Tensor:
        if self.size is not None:
            _enough(end - first, self.size, self.size)
        with ThreadPoolExecutor(READERS) as readers:
            pixels = list(readers.map(self._pixels, self.indices[first:end]))
        wanted = pixels[0].shape if first == 0 else self._pixels(self.indices[0]).shape
        for index, one in zip(self.indices[first:end], pixels, strict=True):
            if one.shape != wanted:
                name = Path(self.folder.directory) / self.folder.records[index]["file_name"]
                raise UserError(
                    f"{name} has {one.shape[2]}x{one.shape[1]} pixels, the first of its folder "
                    f"{wanted[2]}x{wanted[1]}; bring all to one size with --size"
                )
        return torch.from_numpy(np.stack(pixels))

    def _pixels(self, index: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        return self.folder.pixels(index, self.size)


def _enough(count: int, height: int, width: int) -> None:
    """UserError where so many pictures at once, and their copies as numbers, do not fit into memory."""
    what = f"{count} pictures of {width}x{height} at once"
    memory_for(what, (2 + 4) * 3 * height * width * count, "choose a smaller --batch-size or --size")


class NpzPictures:
    """The pictures of ADM's .npz, in their own size; read from the first to the last, they take the memory of a part.

    `most`: only the first so many. UserError for a file without pictures.
    """

    def __init__(self, path: Path, most: int | None = None) -> None:
        self.path = path
        held, *self._side = pictures_held(path)
        self.count = held if most is None else min(most, held)
        self._at, self._ahead, self._parts = 0, torch.empty(0), pictures_in(path)

    @property
    def name(self) -> str:
        return str(self.path)

    def __len__(self) -> int:
        return self.count

    def read(self, first: int, end: int) -> Tensor:
        _enough(end - first, *self._side)
        if first < self._at:  # what has gone by comes again from the start only
            self._at, self._ahead, self._parts = 0, torch.empty(0), pictures_in(self.path)
        found = []
        while self._at < end:
            if not len(self._ahead):
                self._ahead = next(self._parts)
            taken = min(len(self._ahead), (first if self._at < first else end) - self._at)
            if self._at >= first:
                found.append(self._ahead[:taken])
            self._ahead, self._at = self._ahead[taken:], self._at + taken
        return torch.cat(found)
