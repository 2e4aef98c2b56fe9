"""LPIPS: how far apart two pictures look, by the features of a network that learnt to classify (Zhang et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LPIPS", "Backbone", "unit_distance"]

Backbone = Literal["vgg16", "alexnet"]

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""From [-1, 1] to what the classifiers were trained on: ImageNet's means and deviations, of numbers in [0, 1]."""
EPS = 1e-8
"""Beside a feature's squared length, so that a place where nothing answers has a gradient: it is 0."""

Layer = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class _Plan:
    """A feature network in torchvision's numbering: `convolutions` (place, channels, kernel, stride, padding), each
    with a ReLU behind it; `pools` (place of one before a convolution) of `window` and stride 2; `taps`: the
    convolutions after whose ReLU features are compared."""

    convolutions: tuple[Layer, ...]
    pools: frozenset[int]
    window: int
    taps: tuple[int, ...]


def _vgg(place: int, channels: int) -> Layer:
    return place, channels, 3, 1, 1


PLANS: dict[Backbone, _Plan] = {
    # Simonyan and Zisserman 2015, configuration D; compared after relu1_2, 2_2, 3_3, 4_3 and 5_3.
    "vgg16": _Plan(
        tuple(
            _vgg(place, channels)
            for places, channels in (
                ((0, 2), 64),
                ((5, 7), 128),
                ((10, 12, 14), 256),
                ((17, 19, 21, 24, 26, 28), 512),
            )
            for place in places
        ),
        frozenset({5, 10, 17, 24}),
        2,
        (2, 7, 14, 21, 28),
    ),
    # Krizhevsky 2014, the one-tower form; compared after each convolution.
    "alexnet": _Plan(
        ((0, 64, 11, 4, 2), (3, 192, 5, 1, 2), (6, 384, 3, 1, 1), (8, 256, 3, 1, 1), (10, 256, 3, 1, 1)),
        frozenset({3, 6}),
        3,
        (0, 3, 6, 8, 10),
    ),
}
LEAST: dict[Backbone, int] = {"vgg16": 16, "alexnet": 31}
"""Pixels a side, below which the last features have no place left."""


class LPIPS(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1], twice -> their distances (B,), 0 for the same; with gradients to both.

    Zhang et al. 2018, equation 1: features of each layer, at every place of length 1, differ by squares that `linear`
    weighs by channel; the mean over places, summed over layers. Parameters are called `features.N.weight` and
    `.bias` with torchvision's N, and `linear.K`. ValueError for unlike shapes and pictures too small.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self._plan = PLANS[backbone]
        self.features = nn.ModuleDict()
        channels = 3
        for place, width, kernel, stride, padding in self._plan.convolutions:
            self.features[str(place)] = nn.Conv2d(channels, width, kernel, stride, padding)
            channels = width
        widths = {place: width for place, width, *_ in self._plan.convolutions}
        self.linear = nn.ParameterList(torch.full((widths[tap],), 1.0) for tap in self._plan.taps)

    def seen(self, pictures: Tensor) -> Iterator[Tensor]:
        """The features of each compared layer, (B, c, h, w), one after another."""
        shift, scale = (pictures.new_tensor(v).view(3, 1, 1) for v in (SHIFT, SCALE))
        x = (pictures - shift) / scale
        for place, *_ in self._plan.convolutions:
            if place in self._plan.pools:
                x = F.max_pool2d(x, self._plan.window, 2)
            x = F.relu(self.features[str(place)](x))
            if place in self._plan.taps:
                yield x

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        self._check(first, second)
        total = first.new_zeros(len(first))
        for weights, a, b in zip(self.linear, self.seen(first), self.seen(second), strict=True):
            total = total + unit_distance(a.flatten(2), b.flatten(2), weights[:, None])
        return total

    def _check(self, first: Tensor, second: Tensor) -> None:
        least = LEAST[self.backbone]
        wrong = first.ndim != 4 or first.shape[1] != 3 or first.shape != second.shape
        if wrong or min(first.shape[-2:]) < least:
            raise ValueError(
                f"LPIPS by {self.backbone} compares pictures (B, 3, H, W) of one shape and at least {least} pixels a "
                f"side, not {tuple(first.shape)} and {tuple(second.shape)}"
            )


def unit_distance(first: Tensor, second: Tensor, weights: Tensor | float = 1.0) -> Tensor:
    """Features (B, c, n) at n places, brought to length 1 -> (B,): their squared differences, weighed by channel,
    summed over channels, mean over places. With weights 1 it is twice one minus the cosine: 0 to 4. In float32 at
    least, for half precision's squares end."""
    first, second = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (first, second))
    a, b = (x / (x.square().sum(1, keepdim=True) + EPS).sqrt() for x in (first, second))
    return (weights * (a - b).square()).sum(1).mean(1)
