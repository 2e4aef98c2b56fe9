"""The command line: thin commands over the package; torch is imported only inside a command that needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit; every error a user can cause is one line on standard error."""
    try:
        from latentbrush.cli.app import main as run

        run(arguments)
    except KeyboardInterrupt:  # while that was imported, or set up; later it has a way of its own
        print("latentbrush: interrupted", file=sys.stderr)
        sys.exit(130)
