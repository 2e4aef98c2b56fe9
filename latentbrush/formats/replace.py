"""Folders that appear whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from latentbrush.errors import UserError

__all__ = ["replaced_folder"]


@contextmanager
def replaced_folder(directory: Path, *, overwrite: bool, ours: tuple[str, ...]) -> Iterator[Path]:
    """A new, empty folder to fill, which takes the place of `directory` if the block ends well.

    It lies beside `directory`, so that the move is one rename. UserError where something is there already
    and not empty, unless `overwrite`; even then only a folder that holds one of the files `ours` is
    replaced, so that a mistyped path costs nobody a home directory.
    """
    directory = directory.expanduser().absolute()
    _check_target(directory, overwrite, ours)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    except OSError as error:
        raise UserError(f"{directory} cannot be written ({error.strerror}); choose another folder") from None
    try:
        new = scratch / "new"
        new.mkdir()
        yield new
        _swap(new, directory, scratch / "old")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_target(directory: Path, overwrite: bool, ours: tuple[str, ...]) -> None:
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise UserError(f"{directory} is a file or a link, not a folder; choose another name")
    if not directory.exists() or not any(directory.iterdir()):
        return
    if not overwrite:
        raise UserError(f"{directory} is not empty; choose another folder, or overwrite it (overwrite=True)")
    if not any((directory / name).is_file() for name in ours):
        raise UserError(f"{directory} holds no {' or '.join(ours)} and so no model to overwrite; choose another folder")


def _swap(new: Path, directory: Path, old: Path) -> None:
    """Put `new` in the place of `directory`, which is moved to `old`, or back should that fail."""
    if directory.exists():
        directory.rename(old)
    try:
        new.rename(directory)
    except BaseException:
        if old.exists():
            old.rename(directory)
        raise
