"""The libraries that pages and plots stand on, an extra of the package: asked for before hours of work, not after."""

from __future__ import annotations

from importlib.util import find_spec

from latentbrush.errors import UserError

__all__ = ["report_libraries"]

NEEDED = ("jinja2", "matplotlib")


def report_libraries() -> None:
    """UserError, with the remedy, unless pages and plots can be written."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(f"pages and plots need {' and '.join(missing)}; pip install 'latentbrush[report]'")
