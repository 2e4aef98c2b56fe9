"""Files and folders that appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latentbrush.errors import UserError

__all__ = ["whole_file", "whole_folder"]


def _beside(path: Path) -> Path:
    """A name in the same folder, so that the move is one rename on one disk."""
    return path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")


def _refusal(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {path} ({error.strerror or error}); make room or choose another place")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """An empty file to write, which takes the place of `path` if the block ends well and is gone if not.

    Its mode is what the user's new files have, even where the writer makes private ones. UserError where
    the disk refuses.
    """
    beside = _beside(path)
    try:
        with beside.open("xb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        yield beside
        beside.chmod(mode)
        os.replace(beside, path)
    except OSError as error:
        raise _refusal(path, error) from None
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `path` and what was in it if the block ends well.

    Whether a folder may be replaced is the caller's to decide beforehand. UserError where the disk refuses.
    """
    path = path.expanduser().absolute()
    new, old = _beside(path), _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.mkdir()
        yield new
        if path.exists():
            path.rename(old)
        new.rename(path)
    except OSError as error:
        raise _refusal(path, error) from None
    finally:
        # Between the two renames an interrupt or a failure leaves no folder: put the old one back.
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
