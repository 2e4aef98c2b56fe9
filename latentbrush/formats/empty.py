"""Networks that are made to be filled: shapes, but neither memory nor initialisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

__all__ = ["without_memory"]


class _WithoutDraws(TorchFunctionMode):
    """Leaves out normal draws. Where there is no memory they mean nothing, and cost: torch makes them for the
    meta device through its compiler, whose import takes half as long again as that of torch."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if function is nn.init.normal_:
            return named["tensor"] if "tensor" in named else args[0]
        return function(*args, **named)


@contextmanager
def without_memory() -> Iterator[None]:
    """Networks made within are on the meta device, until `load_weights` fills them."""
    with torch.device("meta"), _WithoutDraws():
        yield
