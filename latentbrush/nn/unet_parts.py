"""What the UNets with words and without share: the embedding of the time, the skips, the start, and what they take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from latentbrush.nn.blocks import ResBlock
from latentbrush.nn.condition import Condition
from latentbrush.nn.linear import Linear

__all__ = [
    "TimeEmbedding",
    "check_levels",
    "check_picture",
    "check_positive",
    "check_times",
    "start_at_zero",
    "way_up",
]


class TimeEmbedding(nn.Module):
    """(B, width) -> (B, time_width), of the time's sinusoids and of whatever is added to it."""

    def __init__(self, width: int, time_width: int) -> None:
        super().__init__()
        self.linear_1 = Linear(width, time_width)
        self.linear_2 = Linear(time_width, time_width)

    def forward(self, sinusoids: Tensor) -> Tensor:
        out: Tensor = self.linear_2(F.silu(self.linear_1(sinusoids)))
        return out


def way_up(channels: tuple[int, ...], layers_per_block: int) -> list[tuple[int, int, list[int]]]:
    """Of each level on the way up, the coarsest first: which it is, the channels that come from below, and those of
    the skips that it takes back."""
    skips = [channels[0]]
    for level, width in enumerate(channels):
        skips += [width] * (layers_per_block + (level < len(channels) - 1))
    below = [*channels[1:], channels[-1]]
    return [
        (level, below[level], [skips.pop() for _ in range(layers_per_block + 1)])
        for level in reversed(range(len(channels)))
    ]


def start_at_zero(unet: nn.Module, last: Iterable[nn.Conv2d | nn.Linear]) -> None:
    """The residual blocks of a UNet start as the identity, and its `last` layers, of attention and of all, at zero
    (DDPM, Ho et al. 2020, and ADM, Dhariwal & Nichol 2021, in their code)."""
    for layer in (*last, *(block.conv2 for block in unet.modules() if isinstance(block, ResBlock))):
        nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def check_levels(config: Any, *names: str) -> None:
    """ValueError unless each of these fields of a configuration, where it is not None, has one entry a level."""
    for name in names:
        entries = getattr(config, name)
        if entries is not None and len(entries) != len(config.channels):
            raise ValueError(f"UNet {name} {entries} has {len(entries)} entries for {len(config.channels)} levels")


def check_positive(config: Any, *names: str) -> None:
    """ValueError unless each of these fields of a configuration is at least 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"UNet {name} {getattr(config, name)} must be at least 1")


def check_picture(x: Tensor, condition: Condition, in_channels: int) -> None:
    """ValueError unless x, (B, c, h, w), and the channels of a condition make `in_channels` together."""
    more = 0 if condition.channels is None else condition.channels.shape[1]
    if x.ndim != 4 or x.shape[1] + more != in_channels:
        also = f" with {more} of a condition" if more else ""
        raise ValueError(f"the UNet takes (B, {in_channels}, h, w), not {tuple(x.shape)}{also}")
    if condition.channels is not None and condition.channels.shape[2:] != x.shape[2:]:
        raise ValueError(
            f"a condition's channels are {tuple(condition.channels.shape[2:])} high and wide, the picture is "
            f"{tuple(x.shape[2:])}; they must agree"
        )


def check_times(t: Tensor, batch: int) -> None:
    """ValueError unless there is one time a sample."""
    if t.shape != (batch,):
        raise ValueError(f"the UNet takes one time a sample, ({batch},), not {tuple(t.shape)}")
