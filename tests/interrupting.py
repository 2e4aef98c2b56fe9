"""Ctrl-C at any place of a command: a way to press it at the n-th call of a function of the package."""

from __future__ import annotations

import signal
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import latentbrush
from latentbrush.cli import interrupts

PACKAGE = str(Path(latentbrush.__file__).parent)
# What stands between the package and the disk: files are opened, filled and renamed in these.
WRITERS = ("PIL/Image.py", "PIL/PngImagePlugin.py", "/pathlib.py", "/shutil.py", "safetensors/torch.py")

# What guards all else cannot guard itself: before and after it, some microseconds, Python ends as for any script.
GUARD = ("/cli/__init__.py", "/cli/interrupts.py")


def places(work: Callable[[], None]) -> dict[str, list[int]]:
    """File -> the numbers of the calls made from it while `work` is done: of functions, builtin ones as well."""
    seen: dict[str, list[int]] = defaultdict(list)
    _watched(work, lambda number, name: seen[name].append(number))
    return dict(seen)


def interrupted_at(number: int, work: Callable[[], None]) -> None:
    """Does `work`, with a SIGINT at the call of this number, and a second one at the next: few press it once."""

    def press(now: int, _: str) -> None:
        if now in (number, number + 1):
            signal.raise_signal(signal.SIGINT)

    _watched(work, press)


def _watched(work: Callable[[], None], tell: Callable[[int, str], None]) -> None:
    """Tells the calls that are made while the command line is on its guard."""
    count = 0

    def watch(frame: FrameType, event: str, _: Any) -> None:
        nonlocal count
        name = frame.f_code.co_filename
        ours = name.startswith(PACKAGE) and not name.endswith(GUARD)
        known = event in ("call", "c_call") and (ours or name.endswith(WRITERS))
        if known and signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            count += 1
            tell(count, name)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    patience, interrupts.PATIENCE = interrupts.PATIENCE, 60.0  # however slow the machine
    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(None)
        interrupts.PATIENCE = patience
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # `with torch.device(...)`, interrupted while it ends, would hold for all that follows in this process.
        while torch._C._len_torch_function_stack():
            torch._C._pop_torch_function_stack()


def spread(numbers: list[int], count: int) -> set[int]:
    """The first, the last, and some evenly in between."""
    return {numbers[i * (len(numbers) - 1) // max(1, count - 1)] for i in range(count)}
