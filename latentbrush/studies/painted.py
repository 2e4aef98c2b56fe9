"""The pictures that a model paints of given captions, as a set that metrics read part by part."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latentbrush.data.pixels import to_bytes
from latentbrush.diffusion import MAX_SEED, OnStep, keep
from latentbrush.errors import UserError
from latentbrush.model import LatentDiffusion
from latentbrush.pipeline import paint, plan_of, resolve
from latentbrush.request import ImageRequest

__all__ = ["PaintedPictures"]

MOST_KEPT = 2**28
"""Bytes of finished pictures, for whoever looks at some of them afterwards."""


class PaintedPictures:
    """Picture i is of said[i] (captions, or labels, or None, as the model reads) from the noise of seed + i.

    So a picture does not depend on which others are painted beside it. `request`: how to paint; its prompt is not
    used. UserError for what the model cannot do.
    """

    def __init__(
        self,
        model: LatentDiffusion,
        said: Sequence[str | int | None],
        seed: int = 0,
        request: ImageRequest | None = None,
        on_step: OnStep = keep,
    ) -> None:
        if not said:
            raise UserError("0 pictures are asked for; give at least 1")
        self.model, self.said, self.seed, self.on_step = model, list(said), seed, on_step
        if seed + len(said) - 1 > MAX_SEED:
            raise UserError(
                f"seed {seed} and {len(said)} pictures: the last seed would be above {MAX_SEED}; choose a smaller seed"
            )
        self._kept: dict[int, Tensor] = {}
        self.request = resolve(model, request or ImageRequest(prompt="", label=_label(said)))

    @property
    def name(self) -> str:
        origin = self.model.origin
        return "painted here" if origin is None else f"{origin.folder.name}, painted"

    @property
    def calls(self) -> int:
        """Network calls of one part."""
        return plan_of(self.model, self.request).calls

    def __len__(self) -> int:
        return len(self.said)

    def read(self, first: int, end: int) -> Tensor:
        """What was painted before is not painted again, as far as a bounded memory goes."""
        if all(i in self._kept for i in range(first, end)):
            return torch.stack([self._kept[i] for i in range(first, end)])
        seeds = [self.seed + i for i in range(first, end)]
        painted = to_bytes(paint(self.model, self.said[first:end], seeds, self.request, self.on_step)).cpu()
        if (len(self._kept) + len(painted)) * painted[0].numel() <= MOST_KEPT:
            self._kept.update(zip(range(first, end), painted, strict=True))
        return painted


def _label(said: Sequence[str | int | None]) -> int | None:
    return said[0] if isinstance(said[0], int) else None
