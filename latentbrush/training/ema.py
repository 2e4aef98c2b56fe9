"""The exponential moving average of the weights, which is the model that samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["EMA"]


class EMA:
    """average <- d * average + (1 - d) * weights after every step, d = min(decay, (1 + s) / (10 + s)).

    The warm-up lets the average forget the initialisation. `decay` lies in [0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self._weights: list[Tensor] = list(module.parameters())
        self.average = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.average, self._weights, 1.0 - decay)
        self.steps += 1

    @torch.no_grad()
    def follow(self, weight: Tensor, rows: Tensor) -> None:
        """Take the rows (n,) of a weight of the module as they are: they were replaced, not learned, and between what
        was and what is there lies nothing."""
        place = next(i for i, own in enumerate(self._weights) if own is weight)
        self.average[place][rows] = weight[rows]

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Within it the module has the averaged weights; afterwards its own again, bit for bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, average in zip(self._weights, self.average, strict=True):
            own = weight.clone()
            weight.copy_(average)
            average.copy_(own)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "average": self.average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps = state["steps"]
        for mine, loaded in zip(self.average, state["average"], strict=True):
            mine.copy_(loaded)
