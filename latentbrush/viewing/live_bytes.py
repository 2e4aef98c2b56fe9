"""Counting what is alive: the bytes of tensors, and the most there were at once, whether they hold numbers or none."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["LiveBytes", "counted"]


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types there
    """Counts the bytes of tensors made within it, views once with what they show: alive `now`, and `peak`, the most
    that were at once.

    While it works, a convolution holds its input and its output once more, in the layout of its kernel (oneDNN).
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {id(tensor.untyped_storage()) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if id(storage) not in self._known | given:  # what was given and is not known was there before
                    self._take(storage)
        if function is torch.ops.aten.convolution.default:
            self.peak = max(self.peak, self.now + args[0].nbytes + out.nbytes)
        return out

    def _take(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class _FusedAttention(TorchFunctionMode):
    """Attention as the kernels of CPUs and GPUs compute it: no table of all scores is ever held. Without numbers
    torch chooses the kernel that holds one."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is nn.functional.scaled_dot_product_attention:
            return torch.empty_like(args[0])
        return function(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[LiveBytes]:
    """What is alive of all that is computed in the block, without numbers, as the kernels of attention hold it."""
    with torch.no_grad(), _FusedAttention(), LiveBytes() as live:
        yield live
