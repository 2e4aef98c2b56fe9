"""The Inception network of FID: Szegedy et al. 2016, in the state that TensorFlow published on 2015-12-05."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SIDE", "Inception", "InceptionFeatures"]

SIDE, CLASSES, WIDTH = 299, 1008, 2048
PLACED = 7
"""Channels of the places that sFID compares (Nash et al. 2021, 5.1, as their and ADM's code has it): 7 * 17 * 17."""
Kernel = tuple[int, int]
Pool = Callable[[Tensor], Tensor]

# TensorFlow's mean leaves out what padding adds, along the edges.
_mean_pool = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
_max_pool = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
_halving_pool = partial(F.max_pool2d, kernel_size=3, stride=2)


class InceptionFeatures(NamedTuple):
    """Of B pictures: `pooled` (B, 2048), the last block's mean, which FID compares; `spatial` (B, 2023), seven channels
    of each of 17 x 17 places, row by row, place by place, as ADM's files order them; `logits` (B, 1008), which IS
    reads: without the layer's bias, as Salimans et al. 2016, ADM and StyleGAN compute it."""

    pooled: Tensor
    spatial: Tensor
    logits: Tensor


class FrozenNorm(nn.Module):
    """Batch norm by the statistics of its training, never its own batch's: no picture sees another."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, eps: float = 1e-3) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class Unit(nn.Module):
    """Convolution, norm, ReLU: (B, c, h, w) -> (B, c', h', w'). `padded`: are h and w kept where the stride is 1?"""

    def __init__(self, c_in: int, c_out: int, kernel: Kernel, *, stride: int = 1, padded: bool = True) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if padded else 0
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=padding, bias=False)
        self.norm = FrozenNorm(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Fork(nn.Module):
    """Two units over the same, one wide, one high, their channels side by side."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.a, self.b = Unit(c_in, c_out, (1, 3)), Unit(c_in, c_out, (3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x), self.b(x)], 1)


class Block(nn.ModuleDict):
    """Branches over the same, their channels side by side, in their order; the last sees, or is, what `pool` leaves."""

    def __init__(self, pool: Pool, branches: Mapping[str, nn.Module]) -> None:
        super().__init__(branches)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pool(x)
        outs = [branch(pooled if name == "branch_pool" else x) for name, branch in self.items()]
        return torch.cat(outs if "branch_pool" in self else [*outs, pooled], 1)


class Inception(nn.Module):
    """Pictures (B, 3, 299, 299), (pixel - 128) / 128 -> `InceptionFeatures`. ValueError for another shape.

    It differs from the Inception v3 of the paper and of torchvision: means leave out the padding, the last block takes
    the greatest where the one before it takes the mean, and there are 1008 classes, of which 1000 mean something.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_1a = Unit(3, 32, (3, 3), stride=2, padded=False)
        self.conv_2a = Unit(32, 32, (3, 3), padded=False)
        self.conv_2b = Unit(32, 64, (3, 3))
        self.conv_3b = Unit(64, 80, (1, 1))
        self.conv_4a = Unit(80, 192, (3, 3), padded=False)
        self.mixed_5b, self.mixed_5c, self.mixed_5d = _fine(192, 32), _fine(256, 64), _fine(288, 64)
        self.mixed_6a = _to_middle()
        self.mixed_6b, self.mixed_6c = _middle(128), _middle(160)
        self.mixed_6d, self.mixed_6e = _middle(160), _middle(192)
        self.mixed_7a = _to_coarse()
        self.mixed_7b, self.mixed_7c = _coarse(1280, _mean_pool), _coarse(WIDTH, _max_pool)
        self.classes = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> InceptionFeatures:
        if x.shape[1:] != (3, SIDE, SIDE):
            raise ValueError(f"pictures of shape {tuple(x.shape)} cannot be read: need (B, 3, {SIDE}, {SIDE})")
        x = _halving_pool(self.conv_2b(self.conv_2a(self.conv_1a(x))))  # (B, 64, 73, 73)
        x = _halving_pool(self.conv_4a(self.conv_3b(x)))  # (B, 192, 35, 35)
        x = self.mixed_6a(self.mixed_5d(self.mixed_5c(self.mixed_5b(x))))  # (B, 768, 17, 17)
        x = self.mixed_6d(self.mixed_6c(self.mixed_6b(x)))
        # TensorFlow's tensor mixed_6/conv: the branch of a single 1 x 1 convolution, whose channels come first.
        spatial = x[:, :PLACED].permute(0, 2, 3, 1).flatten(1)
        x = self.mixed_7c(self.mixed_7b(self.mixed_7a(self.mixed_6e(x))))  # (B, 2048, 8, 8)
        pooled = x.mean((2, 3))
        return InceptionFeatures(pooled, spatial, F.linear(pooled, self.classes.weight))


def _chain(c_in: int, *layers: tuple[int, Kernel], halving: bool = False, fork: int = 0) -> nn.Sequential:
    """Units of (channels, kernel). `halving`: has the last a stride of 2? `fork`: channels of two that end it."""
    units: list[nn.Module] = []
    for number, (c_out, kernel) in enumerate(layers, 1):
        last = halving and number == len(layers)
        units.append(Unit(c_in, c_out, kernel, stride=2 if last else 1, padded=not last))
        c_in = c_out
    return nn.Sequential(*units, *([Fork(c_in, fork)] if fork else []))


def _fine(c_in: int, pooled: int) -> Block:
    """At 35 x 35 places; 224 + `pooled` channels."""
    branches = {
        "branch1x1": Unit(c_in, 64, (1, 1)),
        "branch5x5": _chain(c_in, (48, (1, 1)), (64, (5, 5))),
        "branch3x3dbl": _chain(c_in, (64, (1, 1)), (96, (3, 3)), (96, (3, 3))),
        "branch_pool": Unit(c_in, pooled, (1, 1)),
    }
    return Block(_mean_pool, branches)


def _to_middle() -> Block:
    branches = {
        "branch3x3": Unit(288, 384, (3, 3), stride=2, padded=False),
        "branch3x3dbl": _chain(288, (64, (1, 1)), (96, (3, 3)), (96, (3, 3)), halving=True),
    }
    return Block(_halving_pool, branches)


def _middle(c: int) -> Block:
    """At 17 x 17 places; 768 channels, `c` within."""
    wide, high = (1, 7), (7, 1)
    branches = {
        "branch1x1": Unit(768, 192, (1, 1)),
        "branch7x7": _chain(768, (c, (1, 1)), (c, wide), (192, high)),
        "branch7x7dbl": _chain(768, (c, (1, 1)), (c, high), (c, wide), (c, high), (192, wide)),
        "branch_pool": Unit(768, 192, (1, 1)),
    }
    return Block(_mean_pool, branches)


def _to_coarse() -> Block:
    branches = {
        "branch3x3": _chain(768, (192, (1, 1)), (320, (3, 3)), halving=True),
        "branch7x7x3": _chain(768, (192, (1, 1)), (192, (1, 7)), (192, (7, 1)), (192, (3, 3)), halving=True),
    }
    return Block(_halving_pool, branches)


def _coarse(c_in: int, pool: Pool) -> Block:
    """At 8 x 8 places; 2048 channels."""
    branches = {
        "branch1x1": Unit(c_in, 320, (1, 1)),
        "branch3x3": _chain(c_in, (384, (1, 1)), fork=384),
        "branch3x3dbl": _chain(c_in, (448, (1, 1)), (384, (3, 3)), fork=384),
        "branch_pool": Unit(c_in, 192, (1, 1)),
    }
    return Block(pool, branches)
