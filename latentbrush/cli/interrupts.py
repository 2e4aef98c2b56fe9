"""Ctrl-C: the first ends the command, those of the moment after it do not disturb its tidying up."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["INTERRUPTED", "one_interrupt"]

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""
PATIENCE = 2.0
"""Seconds; who presses Ctrl-C later than that finds the tidying up hanging, too, and is heard again."""


@contextmanager
def one_interrupt() -> Iterator[None]:
    """Within it, SIGINTs that follow another are ignored for a while: half-written files are being removed.

    If one has just come it is the last thing a process does; then they are ignored until Python has ended, too.
    """
    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield
        return
    last = -math.inf

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PATIENCE:
            last = now
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if time.monotonic() - last >= PATIENCE else signal.SIG_IGN)
