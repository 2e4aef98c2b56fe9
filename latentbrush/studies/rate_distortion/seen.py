"""What is left of pictures that went through a code: how far they are off, and whether they are still themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentbrush.evaluation.extractor import Extractor

__all__ = ["Judge", "Seen"]


@dataclass(frozen=True)
class Seen:
    """`rmse`: root of the mean squared error, in 1/255. `recognised`: the share of pictures whose features lie nearer
    to those of their own original than to any other's, of which `cosine` is the mean."""

    rmse: float
    recognised: float
    cosine: float

    def to_json(self) -> dict[str, float]:
        return {"rmse": self.rmse, "recognised": self.recognised, "cosine": self.cosine}


class Judge:
    """Compares pictures with `originals`, uint8 (N, 3, H, W), batch by batch, in any number of settings at once."""

    def __init__(self, originals: Tensor, extractor: Extractor, batch: int = 64) -> None:
        self.originals, self.extractor, self.batch = originals, extractor, batch
        self.features = torch.cat([self._unit(part) for part in torch.split(originals, batch)])
        self._parts: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}

    def add(self, name: str, first: int, pictures: Tensor) -> None:
        """`pictures`: as they came back, those of the originals from the first-th on."""
        originals = self.originals[first : first + len(pictures)]
        squares = (pictures.double() - originals.double()).square().flatten(1).mean(1)
        self._parts.setdefault(name, {})[first] = (squares, self._unit(pictures))

    def seen(self, name: str) -> Seen:
        """Of all that were added under a name. ValueError while some are missing."""
        parts = [self._parts[name][first] for first in sorted(self._parts[name])]
        squares, features = (torch.cat(column) for column in zip(*parts, strict=True))
        if len(squares) != len(self.originals):
            raise ValueError(f"{len(squares)} of {len(self.originals)} pictures were added to {name}")
        likeness = features @ self.features.T
        own = likeness.diagonal()
        # Two equal originals are both their own: it counts who is strictly nearer.
        nearer = (likeness > own[:, None] + 1e-6).sum(1)
        return Seen(float(squares.mean().sqrt()), float((nearer == 0).double().mean()), float(own.mean()))

    def whole(self, pictures: Tensor) -> Seen:
        """Of all pictures at once."""
        for first in range(0, len(pictures), self.batch):
            self.add("whole", first, pictures[first : first + self.batch])
        return self.seen("whole")

    def _unit(self, pictures: Tensor) -> Tensor:
        return torch.nn.functional.normalize(self.extractor(pictures).pooled.double(), dim=1)
