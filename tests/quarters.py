"""A feature extractor whose features anyone can compute again."""

from __future__ import annotations

import torch
from torch import Tensor

from latentbrush.evaluation.extractor import ExtractorIdentity, Features


class Quarters:
    """Mean colours of the four quarters: 12 numbers that anyone can compute again."""

    identity = ExtractorIdentity("quarters", "sha256:0", 16, "none", "float32")

    def __init__(self) -> None:
        self.seen = 0
        self.stop_at: int | None = None

    def __call__(self, pictures: Tensor) -> Features:
        self.seen += 1
        if self.seen == self.stop_at:
            raise KeyboardInterrupt
        return Features(torch.nn.functional.adaptive_avg_pool2d(pictures.float() / 255, 2).flatten(1))
