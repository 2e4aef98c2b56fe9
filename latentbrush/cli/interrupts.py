"""Ctrl-C and SIGTERM: the first ends the command, those of the moment after it do not disturb its tidying up."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

__all__ = ["INTERRUPTED", "Interrupt", "one_interrupt"]

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""
PATIENCE = 2.0
"""Seconds; who presses Ctrl-C later than that finds the tidying up hanging, too, and is heard again."""


@dataclass
class Interrupt:
    """Why a KeyboardInterrupt came; `code`: the exit code for it, 130 for Ctrl-C and 143 for SIGTERM."""

    code: int = INTERRUPTED


@contextmanager
def one_interrupt() -> Iterator[Interrupt]:
    """Within it SIGTERM, as SIGINT, is a KeyboardInterrupt, and those that follow one are ignored for a while:
    half-written files are being removed.

    If one has just come it is the last thing a process does; then they are ignored until Python has ended, too.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield interrupt
        return
    last = -math.inf

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PATIENCE:
            last, interrupt.code = now, 128 + number
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if time.monotonic() - last >= PATIENCE else signal.SIG_IGN)
