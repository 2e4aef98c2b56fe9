"""Options that several commands share: the fields of a dataclass, spread out in each command's signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import MISSING, fields
from functools import wraps
from typing import Any, get_type_hints

__all__ = ["with_options"]


def with_options(command: Callable[..., None], kind: type[Any], without: Collection[str] = ()) -> Callable[..., None]:
    """The command with an option for each field of the dataclass `kind`, but those it is `without`, instead of its
    parameter `options`, of that type.

    Typer reads options from a function's signature, so it is given one in which they are spread out.
    """
    hints = get_type_hints(kind, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(kind)
        if field.name not in without
    ]
    assert not any(parameter.default is MISSING for parameter in shared)
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(command, eval_str=True).parameters.items()
        if name != "options"
    ]

    @wraps(command)
    def spread(**values: Any) -> None:
        options = kind(**{parameter.name: values.pop(parameter.name) for parameter in shared})
        command(**values, options=options)

    spread.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    spread.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
    return spread
