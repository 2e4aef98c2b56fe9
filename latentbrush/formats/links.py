"""Symbolic links in a model's folder: they may not lead out of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from latentbrush.errors import UserError

__all__ = ["refuse_links_out"]


def refuse_links_out(directory: Path, names: Iterable[str] = ("",)) -> None:
    """UserError for a link in `directory`, among `names` and below them, whose target lies outside it.

    A model from elsewhere would else read any file of this computer, and say in its errors what is in it.
    The Hugging Face hub's cache is let through: it keeps snapshots/X as links to the files in its own blobs.
    """
    root = directory.resolve()
    allowed = [root, *(parent.parent / "blobs" for parent in root.parents[:2] if parent.name == "snapshots")]
    for path in _paths(directory, names):
        if not path.is_symlink():
            continue
        try:
            target = path.resolve()
        except (OSError, RuntimeError):  # a link to itself
            raise UserError(f"{path} is a link that leads nowhere; copy the whole folder again") from None
        if not any(target.is_relative_to(place) for place in allowed):
            raise UserError(
                f"{path} is a link to {target}, which leads out of its folder; copy what it points to into the folder"
            )


def _paths(directory: Path, names: Iterable[str]) -> Iterator[Path]:
    for name in names:
        yield directory / name
        for parent, folders, files in os.walk(directory / name):  # it follows no links
            yield from (Path(parent) / entry for entry in (*folders, *files))
