"""The command line: thin commands over the package; torch is imported only inside a command that needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from latentbrush.cli.interrupts import one_interrupt

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit; every error a user can cause is one line on standard error."""
    with one_interrupt() as interrupt:
        try:
            from latentbrush.cli.app import run  # here, for to import it takes long enough to be interrupted

            code = run(sys.argv[1:] if arguments is None else list(arguments))
        except KeyboardInterrupt:
            print("latentbrush: interrupted", file=sys.stderr)
            code = interrupt.code
        sys.exit(code)
