"""Which time steps a sampler visits: the spacings of published schedulers, the highest time first.

The names are those of Lin et al. 2024, table 2. Roundings and number types are diffusers', because sigmas
are read off the table at these times.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Spacing", "leading", "linspace", "trailing"]

Spacing = Literal["leading", "trailing", "linspace"]


def leading(n_steps: int, ratio: int, offset: int, first: int = 0) -> NDArray[np.float64]:
    """`n_steps` multiples of `ratio`, the least of them `first` times it, each plus `offset`."""
    return np.arange(first + n_steps - 1, first - 1, -1, dtype=np.float64) * ratio + offset


def trailing(total: int, n_steps: int, start: int | None = None) -> NDArray[np.float64]:
    """From `start` - 1 (total - 1) down by total / n_steps, rounded: n_steps of them, or one more.

    For some n_steps (61 is the first, at total = 1000) rounding errors add an entry t = -1 at the end.
    """
    return np.arange(total if start is None else start, 0, -(total / n_steps)).round() - 1.0


def linspace(total: int, points: int) -> NDArray[np.float64]:
    """`points` times evenly spread over 0 .. total - 1 with both ends, not rounded; one point is 0."""
    return np.linspace(0, total - 1, points)[::-1].copy()
