"""Standard error is for what the command has to say."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["no_foreign_words"]

STANDARD_ERROR = 2


@contextmanager
def no_foreign_words() -> Iterator[None]:
    """Within it nothing reaches the process's standard error.

    libtiff writes there what it thinks of a damaged file, past Python and in no known form; the error that
    Pillow then raises says it all.
    """
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
