"""Guidance of two scales, by the words and by a picture that the network reads (InstructPix2Pix)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from latentbrush.diffusion.level import Level
from latentbrush.errors import UserError
from latentbrush.nn.condition import Condition

__all__ = ["ImageGuidance"]

WITHOUT_WORDS, WITHOUT_BOTH = "without the words", "without both"


@dataclass(frozen=True)
class ImageGuidance:
    """u + image_weight * (i - u) + weight * (c - i) (Brooks et al. 2023, eq. 3).

    c is the network's output under words and picture, i under the picture alone (`without_words`), u under neither
    (`without_both`). Weights are finite, else `UserError`; a branch whose share is zero is not asked for, so two
    weights of 1 cost none.
    """

    without_words: Condition
    without_both: Condition
    weight: float
    image_weight: float

    def __post_init__(self) -> None:
        for name in ("weight", "image_weight"):
            if not math.isfinite(getattr(self, name)):
                raise UserError(f"guidance {name} is {getattr(self, name)}; choose a finite number, 1 for no guidance")

    @property
    def _shares(self) -> dict[str, float]:
        return {WITHOUT_WORDS: self.image_weight - self.weight, WITHOUT_BOTH: 1.0 - self.image_weight}

    def branches(self, level: Level) -> dict[str, Condition]:
        conditions = {WITHOUT_WORDS: self.without_words, WITHOUT_BOTH: self.without_both}
        return {name: conditions[name] for name, share in self._shares.items() if share}

    def combine(self, out: Tensor, outputs: Mapping[str, Tensor]) -> Tensor:
        # The shares add up to 1 with the weight of the words, so this is the equation, ordered by branch.
        asked = {name: share for name, share in self._shares.items() if share}
        return self.weight * out + sum(share * outputs[name] for name, share in asked.items()) if asked else out
