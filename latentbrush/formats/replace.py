"""Which folders a saved model or report may replace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latentbrush.errors import UserError
from latentbrush.files import whole_folder

__all__ = ["replaced_folder"]


@contextmanager
def replaced_folder(directory: Path, *, overwrite: bool, ours: tuple[str, ...]) -> Iterator[Path]:
    """A new, empty folder to fill, which takes the place of `directory` if the block ends well.

    UserError where something is there already and not empty, unless `overwrite`; even then only a folder
    that holds one of the files `ours` is replaced, so that a mistyped path costs nobody a home directory.
    """
    directory = directory.absolute()
    _check_target(directory, overwrite, ours)
    with whole_folder(directory) as new:
        yield new


def _check_target(directory: Path, overwrite: bool, ours: tuple[str, ...]) -> None:
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise UserError(f"{directory} is a file or a link, not a folder; choose another name")
    if not directory.exists() or not any(directory.iterdir()):
        return
    if not overwrite:
        remedy = "choose another folder, or overwrite it (--overwrite, in Python overwrite=True)"
        raise UserError(f"{directory} is not empty; {remedy}")
    if not any((directory / name).is_file() for name in ours):
        raise UserError(f"{directory} holds no {' or '.join(ours)} to overwrite; choose another folder")
