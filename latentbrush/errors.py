"""The errors a user can cause.

Every message is one line that states the value, the limit and the remedy; the command line prints it
and exits with code 2. `UserError` is a `ValueError`, so that Python callers need no new type, and
`assert` is kept for what only a bug in this package can cause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # slow to import
    from pydantic import ValidationError

__all__ = ["NotFiniteError", "UserError", "one_line", "printable", "short"]

LONGEST = 2000
"""Characters of a message: a hostile file's values may have millions."""
SHOWN = 200
"""Letters of a value that a message repeats; files hold values of any length."""
_OWN_WORDS = {"path_type": "needed is the name of a file or folder"}
"""Where pydantic's speak of Python's types."""


class UserError(ValueError):
    """Something the user gave is wrong: the message says what, what is allowed, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class NotFiniteError(UserError):
    """What a network computed is infinite or no number, in float32 too, and would spoil a file."""


def printable(message: str, longest: int = LONGEST) -> str:
    """One line that every terminal shows as it is meant.

    White space becomes single spaces. What is invisible, control characters and those that turn the writing's
    direction among them, becomes escapes. Of too long a line the middle is left out: a message begins with
    what is wrong and ends with the remedy.
    """
    line = " ".join(message.split())
    if len(line) > longest:
        line = f"{line[: longest * 2 // 3]} ... {line[-longest // 3 :]}"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def one_line(error: ValidationError) -> str:
    """The first thing pydantic found wrong: where, what, and the value given.

    Names of union branches and validators, which pydantic puts into the path, mean nothing to a user.
    """
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if str(part).replace("_", "").isalnum())
    given = first["input"]
    message = _OWN_WORDS.get(first["type"], str(first["msg"]).removeprefix("Value error, "))
    told = isinstance(given, (dict, BaseException)) or ", not " in message
    return f"{place}: {message}"[0 if place else 2 :] + ("" if told else f", not {short(given)}")


def short(value: object) -> str:
    """A value as messages show it: on one line, without control characters, cut where it is long."""
    try:
        text = repr(value[: SHOWN + 1] if isinstance(value, str) else value)
    except (ValueError, RecursionError):  # Python writes out no number of over 4,300 digits, nor endless levels
        text = f"<{type(value).__name__}, too long to be shown>"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
