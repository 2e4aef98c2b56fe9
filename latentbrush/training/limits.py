"""How large what a recipe describes may be: what is larger would fill the memory, or never be built."""

from __future__ import annotations

from typing import Any

from latentbrush.errors import short
from latentbrush.formats.configs import MOST_BLOCKS
from latentbrush.formats.fields import MOST, MOST_LAYERS, MOST_LEVELS

__all__ = ["MOST_BATCH", "MOST_STEPS", "MOST_TOKENS", "refuse_endless"]

MOST_STEPS = 10**9
"""Longer than any run; and a number that all arithmetic here can hold."""
MOST_BATCH = 2**16
"""Twice CLIP's."""
MOST_TOKENS = 4096
"""In a prompt; CLIP has 77, T5 512."""
LAYERS = ("layers", "layers_per_block", "depth")


def refuse_endless(config: Any) -> Any:
    """A network's config as it is. ValueError for more than the folder of a finished model may state."""
    for name, value in vars(config).items():
        numbers = value if isinstance(value, tuple) else (value,)
        if len(numbers) > MOST_LEVELS:
            raise ValueError(f"{name} has {len(numbers)} entries, at most {MOST_LEVELS} are read")
        most = MOST_LAYERS if name in LAYERS else MOST
        for number in numbers:
            if isinstance(number, int | float) and number > most:
                raise ValueError(f"{name} {short(number)} is too large; choose at most {most}")
    blocks = getattr(config, "layers_per_block", 1) * sum(getattr(config, "depth", ()))
    if blocks > MOST_BLOCKS:
        raise ValueError(f"layers_per_block times depth make {short(blocks)} blocks; choose at most {MOST_BLOCKS}")
    return config
