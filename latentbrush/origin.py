"""Where a model was read from, and the SHA-256 of its files, by which pictures name their weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from latentbrush.errors import UserError
from latentbrush.files import MAX_TEXT

__all__ = ["Origin", "sha256_of"]


class Origin:
    """The folder a model was read from; the files of its weights, and of its settings, in that folder.

    `sampler`: the one that was chosen instead of the folder's scheduler when it was read, if any. `note`: how a file
    was read that does not say all about itself.
    Of `settings` only regular files count. UserError for one that is too large to be a setting.
    """

    def __init__(
        self, folder: Path, weights: Iterable[Path], settings: Iterable[Path], sampler: str | None, note: str = ""
    ) -> None:
        self.folder, self.sampler, self.note = folder, sampler, note
        self._weights = {path: _stamp(path) for path in weights}
        # What else bears such a name, a pipe or a folder, is read by nobody, and to hash it might never end.
        self._settings = {path: _stamp(path) for path in settings if path.is_file()}
        for path, stamp in self._settings.items():
            if stamp is not None and stamp[0] > MAX_TEXT:
                raise UserError(
                    f"{path} has {stamp[0]} bytes, settings at most {MAX_TEXT}; take it out of the model's folder"
                )

    @cached_property
    def weights(self) -> Mapping[str, str]:
        """Path within the folder -> SHA-256; a file that changed since it was read is left out.

        Computed when first asked for, 1 to 2 seconds a gigabyte, so that whoever never asks does not wait.
        """
        return {self._name(path): sha256_of(path) for path, stamp in self._weights.items() if _stamp(path) == stamp}

    @cached_property
    def settings(self) -> str | None:
        """One SHA-256 of all settings files, with their names; None if one of them changed since it was read."""
        if any(_stamp(path) != stamp for path, stamp in self._settings.items()):
            return None
        lines = [f"{sha256_of(path)}  {self._name(path)}\n" for path in sorted(self._settings)]
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is written; None where there is none any more."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def sha256_of(path: Path) -> str:
    """Of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
