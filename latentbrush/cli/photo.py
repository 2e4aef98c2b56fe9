"""A picture that the user brings: an error is one line, whatever the libraries that read it have to say."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it imports torch
    from latentbrush.formats import Photo

__all__ = ["photo_in"]

STANDARD_ERROR = 2


def photo_in(path: Path, ground: str = "white") -> Photo:
    """The picture in a file, transparency on `ground`. UserError for what is no such file."""
    from latentbrush.formats import load_photo

    with _no_foreign_words():
        return load_photo(path, ground)


@contextmanager
def _no_foreign_words() -> Iterator[None]:
    """Within it nothing reaches the process's standard error.

    libtiff writes there what it thinks of a damaged file, past Python and in no known form; the error that
    Pillow then raises says it all.
    """
    if sys.stderr is not None:  # a process may have been started without it
        sys.stderr.flush()
    try:
        kept = os.dup(STANDARD_ERROR)
    except OSError:  # it is closed
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, STANDARD_ERROR)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, STANDARD_ERROR)
        os.close(kept)
