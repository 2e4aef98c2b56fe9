"""What a network is told beside the noisy picture and its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

__all__ = ["Condition", "check_labels"]


@dataclass(frozen=True)
class Condition:
    """The condition tau(y) of a batch, as a UNet takes it (LDM, section 3.3).

    `context`: (B, n, d), the token sequence that cross-attention reads, (B, 0, 0) for a UNet without. The others are
    None where the UNet takes none. `classes`: whole numbers (B,), a label for each picture. `pooled`: (B, p), one
    vector for the whole text, and `micro`: (B, k), numbers such as sizes in pixels, both added to the time's embedding
    (SDXL, Podell et al. 2023, section 2.2). `channels`: (B, c, h, w), joined to the noisy picture's own (LDM, section
    4.3.2). ValueError where one of them is of another batch than the context.
    """

    context: Tensor
    classes: Tensor | None = None
    pooled: Tensor | None = None
    micro: Tensor | None = None
    channels: Tensor | None = None

    def __post_init__(self) -> None:
        batch = self.context.shape[0]
        self._check_classes(batch)
        for name, dims in (("pooled", 2), ("micro", 2), ("channels", 4)):
            part = getattr(self, name)
            if part is not None and (part.ndim != dims or part.shape[0] != batch):
                raise ValueError(
                    f"a condition's {name} {tuple(part.shape)} must have {dims} dimensions, the first as the "
                    f"context's batch of {batch}"
                )

    def _check_classes(self, batch: int) -> None:
        if self.classes is None:
            return
        if self.classes.is_floating_point() or self.classes.is_complex() or self.classes.dtype == torch.bool:
            raise ValueError(f"class labels are whole numbers, not {self.classes.dtype}")
        if tuple(self.classes.shape) != (batch,):
            raise ValueError(
                f"class labels {tuple(self.classes.shape)} do not fit the context's batch of {batch}; "
                "needed is one label a picture"
            )

    def rows(self, places: Sequence[int]) -> Condition:
        """The condition of a batch made of these places of this one's, in this order."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return Condition(
            **{name: None if part is None else part[list(places)] for name, part in parts.items()}  # type: ignore[arg-type]
        )

    @staticmethod
    def cat(conditions: Sequence[Condition]) -> Condition:
        """Join along the batch. ValueError unless the parts agree in shape, and each is in all or in none."""
        joined: dict[str, Tensor | None] = {}
        for name in (field.name for field in fields(Condition)):
            parts = [part for part in (getattr(c, name) for c in conditions) if part is not None]
            said = "class labels" if name == "classes" else name
            if parts and len(parts) < len(conditions):
                raise ValueError(f"{len(parts)} of {len(conditions)} conditions have {said}; needed are all or none")
            shapes = {tuple(part.shape[1:]) for part in parts}
            if len(shapes) > 1:
                raise ValueError(f"conditions of unlike shapes cannot be joined: {said} {sorted(shapes)}")
            joined[name] = torch.cat(parts) if parts else None
        return Condition(**joined)  # type: ignore[arg-type]  # every condition has a context


def check_labels(labels: Tensor | None, count: int | None) -> None:
    """ValueError unless a network with `count` classes, None for none, can read these labels (B,)."""
    if count is None:
        if labels is not None:
            raise ValueError(f"the UNet has no classes, but was given {labels.numel()} labels; leave them out")
        return
    if labels is None:
        raise ValueError(f"the UNet has {count} classes, but was given no labels; it takes one a picture")
    # Asked here, though a GPU must be waited for: there the embedding itself would end the whole process.
    if not labels.is_meta and bool(((labels < 0) | (labels >= count)).any()):
        low, high = int(labels.min()), int(labels.max())
        raise ValueError(f"class labels from {low} to {high} are out of range: the UNet has 0 to {count - 1}")
