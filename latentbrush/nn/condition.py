"""What a network is told beside the noisy picture and its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Condition"]


@dataclass(frozen=True)
class Condition:
    """The condition tau(y) of a batch, as a UNet takes it (LDM, section 3.3).

    `context`: (B, n, d), the token sequence that cross-attention reads.
    """

    context: Tensor

    @staticmethod
    def cat(conditions: Sequence[Condition]) -> Condition:
        """Join along the batch. The sequences must agree in length and width."""
        shapes = {tuple(c.context.shape[1:]) for c in conditions}
        if len(shapes) > 1:
            raise ValueError(f"conditions of unlike shapes cannot be joined: {sorted(shapes)}")
        return Condition(context=torch.cat([c.context for c in conditions]))
