"""A pickle's content without unpickling: its opcodes are read, and nothing that they ask for is ever called.

The stdlib parses the opcodes (pickletools); what a stack machine does with them is below, for those alone that
a checkpoint of weights is written with. What would be an import becomes a `Global`, what would be a call a `Made`:
names and values to look at. So there is no list of harmless functions to keep complete, and torch's own
weights-only reader, which has one, would besides refuse files that other libraries left their settings in.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

__all__ = ["Global", "Made", "Persistent", "read_pickle"]

MOST_OPCODES = 2_000_000
"""A Stable Diffusion checkpoint with moving averages and an optimiser's state has about 200,000."""
MOST_NUMBERED = 20_000
"""Keys that are numbers, of all dicts together. Optimisers have one a parameter, in old files its address."""
MOST_KEY = 2**60
"""Python hashes numbers by their rest modulo 2^61 - 1 and these by themselves, so that no two have one hash."""
CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
    | {"SHORT_BINBYTES", "BINBYTES", "SHORT_BINSTRING", "BINSTRING"}
)


@dataclass(frozen=True)
class Global:
    """What the pickle would import."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Persistent:
    """What the pickle refers to beside it: for torch, a storage."""

    identity: Any


@dataclass(eq=False)
class Made:
    """What a call of `function` would make; `items` were put into it afterwards."""

    function: Global
    arguments: tuple[Any, ...]
    items: dict[Any, Any] = field(default_factory=dict)


class _Mark:
    pass


_MARK = _Mark()


def read_pickle(
    data: bytes | IO[bytes], allow: Callable[[Global], bool], persistent: list[Persistent] | None = None
) -> Any:
    """The one object in a pickle: dicts, lists, tuples, numbers and texts, else the classes above.

    An open file, which should be small, is left where the pickle ends. `persistent` takes up whatever the pickle
    refers to beside it. ValueError for a global that is not `allow`ed, an opcode that no weights need, too many of
    them, and damage.
    """
    machine = _Machine(allow)
    try:
        found = machine.run(data)
    except (IndexError, KeyError, TypeError, OverflowError):
        raise ValueError("its pickle is damaged") from None
    if persistent is not None:
        persistent.extend(machine.persistent)
    return found


class _Machine:
    def __init__(self, allow: Callable[[Global], bool]) -> None:
        self.allow = allow
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.persistent: list[Persistent] = []
        self.numbered = 0

    def run(self, data: bytes | IO[bytes]) -> Any:
        argument: Any
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MOST_OPCODES:
                raise ValueError(f"its pickle has more than {MOST_OPCODES} opcodes")
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in CONSTANTS:
                self.stack.append(CONSTANTS[name])
            elif name in VALUES:
                self.stack.append(argument)
            elif name == "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            elif name in ("BINPUT", "LONG_BINPUT"):
                self.memo[argument] = self.stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                self.stack.append(self.memo[argument])
            elif name == "GLOBAL":
                self.stack.append(self._global(*argument.split(" ")))
            else:
                step = getattr(self, f"_{name.lower()}", None)
                if step is None:
                    raise ValueError(f"its pickle has the opcode {name}, which no weights need")
                step()
        raise ValueError("its pickle has no end")

    def _global(self, module: Any, name: Any) -> Global:
        found = Global(str(module), str(name))
        if not self.allow(found):
            raise ValueError(f"its pickle asks for {found}, which no weights need and which could run code")
        return found

    def _proto(self) -> None:
        pass

    def _frame(self) -> None:
        pass

    def _mark(self) -> None:
        self.stack.append(_MARK)

    def _from_mark(self) -> list[Any]:
        """What lies above the last mark, taken off together with it."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            if place == 0:
                raise IndexError("no mark")
            place -= 1
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def _empty_dict(self) -> None:
        self.stack.append({})

    def _empty_list(self) -> None:
        self.stack.append([])

    def _empty_tuple(self) -> None:
        self.stack.append(())

    def _empty_set(self) -> None:
        self.stack.append([])  # nothing asks for sets; their members might not be hashable here

    def _list(self) -> None:
        self.stack.append(self._from_mark())

    def _tuple(self) -> None:
        self.stack.append(tuple(self._from_mark()))

    def _last_as_tuple(self, count: int) -> None:
        items = self.stack[-count:]
        if len(items) != count:
            raise IndexError("the stack is empty")
        self.stack[-count:] = [tuple(items)]

    def _tuple1(self) -> None:
        self._last_as_tuple(1)

    def _tuple2(self) -> None:
        self._last_as_tuple(2)

    def _tuple3(self) -> None:
        self._last_as_tuple(3)

    def _append(self) -> None:
        item = self.stack.pop()
        self._into_list([item])

    def _appends(self) -> None:
        self._into_list(self._from_mark())

    def _additems(self) -> None:
        self._into_list(self._from_mark())

    def _into_list(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)
        elif not isinstance(self.stack[-1], Made):
            raise TypeError("items for what is no list")

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._into_dict([key, value])

    def _setitems(self) -> None:
        self._into_dict(self._from_mark())

    def _into_dict(self, flat: list[Any]) -> None:
        top = self.stack[-1]
        items = top.items if isinstance(top, Made) else top
        if not isinstance(items, dict) or len(flat) % 2:
            raise TypeError("items for what is no dict")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            # Not tuples: nested in themselves they take for ever to hash.
            if not isinstance(key, str | int | float | Global | None):
                raise TypeError("a key that is none")
            if isinstance(key, int | float):
                self._check_number(key)
            items[key] = value

    def _check_number(self, key: int | float) -> None:
        """Whoever chooses a dict's keys can have each new one meet all before it, even those with hashes of their
        own (by the places that a dict tries in turn), unless the keys are texts: Python hashes those anew each run."""
        if isinstance(key, float) or abs(key) >= MOST_KEY:
            raise ValueError("its pickle has a dict with a fraction or a number of over 60 bits as a key")
        self.numbered += 1
        if self.numbered > MOST_NUMBERED:
            raise ValueError(f"its pickle has dicts with more than {MOST_NUMBERED} numbers as keys")

    def _stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("a name that is none")
        self.stack.append(self._global(module, name))

    def _reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise TypeError("a call of what has no name")
        self.stack.append(Made(function, arguments))

    def _newobj(self) -> None:
        self._reduce()

    def _build(self) -> None:
        self.stack.pop()  # attributes: a state_dict's versions of its modules, an optimiser's settings
        if not isinstance(self.stack[-1], Made):
            raise TypeError("attributes for what has none")

    def _binpersid(self) -> None:
        found = Persistent(self.stack.pop())
        self.persistent.append(found)
        self.stack.append(found)
