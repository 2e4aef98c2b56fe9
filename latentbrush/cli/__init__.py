"""The command line: thin commands over the package; torch is imported only inside a command that needs it."""

from latentbrush.cli.app import main

__all__ = ["main"]
