"""Tables on standard output: what users gave is printed as it is, never read as markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["print_table", "shown"]


def print_table(rows: Iterable[Sequence[str]], *, columns: Sequence[str] = (), right: Iterable[str] = ()) -> None:
    """Print rows under `columns`, those in `right` aligned there; without columns, a name and a value a row."""
    table = Table(box=box.SIMPLE_HEAD if columns else None, show_header=bool(columns), show_edge=False, pad_edge=False)
    for name in columns or ("", ""):
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)


def shown(text: str) -> str:
    """Text as it is, or, where letters in it cannot be seen, such as joiners and control codes, escaped."""
    return text if text.isprintable() else repr(text)
