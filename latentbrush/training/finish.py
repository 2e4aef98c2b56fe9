"""How a run's finished model is saved."""

from __future__ import annotations

from collections.abc import Callable

import torch

from latentbrush.formats import TooLargeError

__all__ = ["save_half"]


def save_half(save: Callable[[torch.dtype], None]) -> str | None:
    """`save` in float16, half the size; in float32 where a weight is too large for that.

    Hours of training must not end in a refusal. Returns what the user is to be told, if anything.
    """
    try:
        save(torch.float16)
    except TooLargeError as error:
        save(torch.float32)
        return f"the finished model is saved as float32, twice the size: {error.what}"
    return None
