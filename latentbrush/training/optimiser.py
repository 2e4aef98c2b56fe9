"""What AdamW is given: parameters in groups of weight decay and learning rate."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["decayed_groups"]


def decayed_groups(module: nn.Module, weight_decay: float, lr_scale: float = 1.0) -> list[dict[str, Any]]:
    """Two groups: matrices and kernels decay; biases and the gains of norms do not.

    `lr_scale` multiplies the recipe's learning rate for all of them.
    """
    parameters = list(module.parameters())
    decayed = [parameter for parameter in parameters if parameter.ndim > 1]
    free = [parameter for parameter in parameters if parameter.ndim <= 1]
    return [
        {"params": decayed, "weight_decay": weight_decay, "lr_scale": lr_scale},
        {"params": free, "weight_decay": 0.0, "lr_scale": lr_scale},
    ]
