"""FID's Inception with weights that any computer draws alike, under the names of the published file; and pictures."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentbrush.formats.keys import INCEPTION
from latentbrush.nn import Inception

SEED = 11


def drawn_weights() -> dict[str, Tensor]:
    """Every number its own, in double precision, scaled so that signals neither vanish nor grow through the depth."""
    with torch.device("meta"):
        shapes = {INCEPTION.theirs(name): tensor.shape for name, tensor in Inception().state_dict().items()}
    generator = torch.Generator().manual_seed(SEED)
    weights = {}
    for name, shape in sorted(shapes.items()):
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        if len(shape) > 1:
            weights[name] = noise * math.sqrt(2 / noise[0].numel())
        elif name.endswith("running_var"):
            weights[name] = 1 + 0.1 * noise.abs()
        else:
            weights[name] = 0.1 * noise + (1.0 if name.endswith("weight") else 0.0)
    return weights


def drawn_pictures(count: int = 2, height: int = 40, width: int = 52) -> Tensor:
    """uint8 (count, 3, height, width)."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)
