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

    `context`: (B, n, d), the token sequence that cross-attention reads. `classes`: whole numbers (B,), a label
    for each picture, where the UNet has an embedding of classes. ValueError where the two are of unlike batches.
    """

    context: Tensor
    classes: Tensor | None = None

    def __post_init__(self) -> None:
        if self.classes is None:
            return
        if self.classes.is_floating_point() or self.classes.is_complex() or self.classes.dtype == torch.bool:
            raise ValueError(f"class labels are whole numbers, not {self.classes.dtype}")
        if tuple(self.classes.shape) != (self.context.shape[0],):
            raise ValueError(
                f"class labels {tuple(self.classes.shape)} do not fit the context's batch of "
                f"{self.context.shape[0]}; needed is one label a picture"
            )

    @staticmethod
    def cat(conditions: Sequence[Condition]) -> Condition:
        """Join along the batch. ValueError unless sequences agree in length and width, and all or none have labels."""
        shapes = {tuple(c.context.shape[1:]) for c in conditions}
        if len(shapes) > 1:
            raise ValueError(f"conditions of unlike shapes cannot be joined: {sorted(shapes)}")
        labels = [c.classes for c in conditions if c.classes is not None]
        if labels and len(labels) < len(conditions):
            raise ValueError(f"{len(labels)} of {len(conditions)} conditions have class labels; needed are all or none")
        return Condition(torch.cat([c.context for c in conditions]), torch.cat(labels) if labels else None)
