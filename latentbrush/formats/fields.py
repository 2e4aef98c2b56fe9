"""Reading a configuration file strictly: every field is read, fixed, harmless, or an error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from latentbrush.errors import UserError

__all__ = ["Fields"]

MOST = 2**20
"""No real network is wider, no vocabulary larger; a damaged file could ask for more than numbers can count."""
MOST_LAYERS, MOST_LEVELS = 100, 16
"""Networks are built before their weights are looked at."""


class Fields:
    """The fields of one configuration file, each to be accounted for once.

    A field that nobody accounted for is a UserError in `done`, unless its value is null, false or empty,
    by which later versions of a format say that something new is switched off, or its name begins with an
    underscore, as those do that describe the file itself (`_class_name`, `_diffusers_version`).
    """

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self.path = path
        self._content = dict(content)
        self._known: set[str] = set()

    def has(self, key: str) -> bool:
        """Is the field stated? null counts as not stated."""
        return self._content.get(key) is not None

    def raw(self, key: str, default: Any = None) -> Any:
        """The value as it stands; the default only where the file does not state the field at all."""
        self._known.add(key)
        return self._content.get(key, default)

    def whole(self, key: str, default: int | None = None, most: int = MOST) -> int:
        value = self._stated(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not _is_whole(value):
            raise self.wrong(key, value, "a whole number")
        self._bounded(key, [value], most)
        return int(value)

    def layers(self, key: str, default: int) -> int:
        """How many of something are built; a list must hold one number throughout."""
        number = self.same(key, default)
        self._bounded(key, [number], MOST_LAYERS)
        return number

    def number(self, key: str, default: float | None = None) -> float:
        value = self._stated(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
            raise self.wrong(key, value, "a finite number")
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        value = self._stated(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    def name(self, key: str, default: str | None = None) -> str:
        value = self._stated(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, value, "a name")
        return value

    def wholes(self, key: str, default: Iterable[int] | int | None = None) -> tuple[int, ...]:
        """A list of whole numbers; a single one counts as a list of it alone."""
        value = self._stated(key, default)
        entries = list(value) if isinstance(value, list | tuple) else [value]
        if not entries or not all(_is_whole(entry) for entry in entries):
            raise self.wrong(key, value, "whole numbers")
        self._bounded(key, entries, MOST)
        if len(entries) > MOST_LEVELS:
            raise self.wrong(key, value, f"at most {MOST_LEVELS} numbers")
        return tuple(entries)

    def numbers(self, key: str, default: Iterable[float] | None = None) -> tuple[float, ...]:
        """A list of finite numbers."""
        value = self._stated(key, None if default is None else list(default))
        numeric = isinstance(value, list) and all(isinstance(v, int | float) and _is_finite(v) for v in value)
        if not numeric:
            raise self.wrong(key, value, "a list of numbers")
        return tuple(float(v) for v in value)

    def per_level(self, key: str, levels: int, default: int) -> tuple[int, ...]:
        """A whole number for each level, or one for all."""
        entries = self.wholes(key, default)
        if len(entries) == 1:
            return entries * levels
        if len(entries) != levels:
            raise self.wrong(key, list(entries), f"one number, or {levels}, one a level")
        return entries

    def same(self, key: str, default: int | None = None) -> int:
        """A whole number; a list must hold it throughout."""
        entries = self.wholes(key, default)
        if len(set(entries)) > 1:
            raise self.wrong(key, list(entries), "one number for all")
        return entries[0]

    def names(self, key: str, default: Iterable[str]) -> tuple[str, ...]:
        value = self._stated(key, list(default))
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise self.wrong(key, value, "a list of names")
        return tuple(value)

    def only(self, key: str, *allowed: Any) -> None:
        """The field must have one of these values, the first of them where it is not stated."""
        value = self.raw(key, allowed[0])
        if value is None and not allowed[0]:
            return  # null is as good as false
        if not any(value == a and isinstance(value, bool) == isinstance(a, bool) for a in allowed):
            supported = " or ".join(repr(a) for a in allowed)
            raise UserError(f"{self.path}: {key} {value!r} is not supported; only {supported} is")

    def harmless(self, *keys: str) -> None:
        """Fields that change nothing of what is computed here."""
        self._known.update(keys)

    def section(self, key: str) -> Fields:
        """The fields of an object within; it has none where the file does not state it."""
        value = self.raw(key)
        if not (value is None or isinstance(value, dict)):
            raise self.wrong(key, value, "an object of fields")
        return Fields(Path(f"{self.path}: {key}"), value or {})

    def stated(self) -> tuple[str, ...]:
        """The names of all fields in the file."""
        return tuple(self._content)

    def done(self) -> None:
        """UserError for the first field that nobody accounted for and that says something."""
        for key, value in self._content.items():
            silent = value is None or value is False or value in ([], {}, "")
            if key not in self._known and not key.startswith("_") and not silent:
                raise UserError(
                    f"{self.path}: {key} {value!r} is unknown here and may change what the model computes; "
                    "remove it if you know that it does not"
                )

    def wrong(self, key: str, value: Any, needed: str) -> UserError:
        return UserError(f"{self.path}: {key} is {value!r}, needed is {needed}; correct it in that file")

    def _bounded(self, key: str, entries: Iterable[int], most: int) -> None:
        if not all(abs(entry) <= most for entry in entries):
            raise UserError(
                f"{self.path}: {key} is {self.raw(key)!r}, but at most {most} is read; correct it in that file"
            )

    def _stated(self, key: str, default: Any) -> Any:
        """The value; the default if the file has no such field. null is a value, and here a wrong one."""
        value = self.raw(key, default)
        if key not in self._content and default is None:
            raise UserError(f"{self.path}: {key} is missing; copy the file again")
        return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: float) -> bool:
    """Whole numbers, too, can be too large for a float."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
