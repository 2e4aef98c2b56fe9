"""The image information creator: the UNet of the Stable Diffusion family (LDM, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentbrush.nn.attention import SpatialTransformer
from latentbrush.nn.blocks import Downsample, ResBlock, Upsample, check_groups, timestep_embedding
from latentbrush.nn.condition import Condition, check_labels
from latentbrush.nn.unet_parts import (
    TimeEmbedding,
    check_levels,
    check_picture,
    check_positive,
    check_times,
    start_at_zero,
    way_up,
)

__all__ = ["UNet", "UNetConfig"]


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a UNet; the defaults are Stable Diffusion 1.

    One entry a level, from the finest: `channels`, `attention` (has it spatial transformers), `heads`,
    `depth` (transformer blocks in each). The middle always has one, with the last level's figures.
    `only_cross` (do transformers on the way down and up read the condition alone, never each other's cells?), None
    for nowhere. `sample_size` is the latent side it was trained at. `classes`: how many have an embedding, which is
    added to that of the time; None for a UNet that takes no labels. `added_width`: what the text's pooled vector and
    the sinusoids of further numbers, `micro_width` wide each, make together, which is embedded and added, too (SDXL);
    None for a UNet that takes neither.
    """

    sample_size: int = 64
    in_channels: int = 4
    out_channels: int = 4
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    attention: tuple[bool, ...] = (True, True, True, False)
    heads: tuple[int, ...] = (8, 8, 8, 8)
    depth: tuple[int, ...] = (1, 1, 1, 1)
    context_width: int = 768
    linear_projection: bool = False
    groups: int = 32
    norm_eps: float = 1e-5
    flip_sin_to_cos: bool = True
    freq_shift: float = 0.0
    dropout: float = 0.0
    classes: int | None = None
    added_width: int | None = None
    micro_width: int = 256
    only_cross: tuple[bool, ...] | None = None

    least_side: ClassVar[int] = 1
    """Of the latents that it takes: halving rounds up."""

    def __post_init__(self) -> None:
        check_groups(self.channels, self.groups)
        check_levels(self, "attention", "heads", "depth", "only_cross")
        for width, heads in zip(self.channels, self.heads, strict=True):
            if heads < 1 or width % heads:
                raise ValueError(f"{width} UNet channels are not divisible by {heads} attention heads")
        check_positive(self, "sample_size", "in_channels", "out_channels", "layers_per_block", "context_width")
        if self.classes is not None and self.classes < 1:
            raise ValueError(f"UNet classes {self.classes} must be at least 1, or None for no labels")
        if min(self.depth) < 1:
            raise ValueError(f"UNet depth {self.depth} must be at least 1 a level")
        if self.micro_width < 2 or self.micro_width % 2:
            raise ValueError(f"UNet micro_width {self.micro_width} must be even and at least 2: sines and cosines")
        if self.added_width is not None and self.added_width <= self.micro_width:
            raise ValueError(
                f"UNet added_width {self.added_width} must exceed the {self.micro_width} of one number: the text's "
                "vector comes before"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"UNet dropout {self.dropout} must lie in [0, 1)")

    @property
    def time_width(self) -> int:
        return 4 * self.channels[0]


def _resnet(config: UNetConfig, c_in: int, c_out: int) -> ResBlock:
    return ResBlock(
        c_in,
        c_out,
        time_width=config.time_width,
        groups=config.groups,
        eps=config.norm_eps,
        dropout=config.dropout,
    )


def _transformer(config: UNetConfig, level: int, *, middle: bool = False) -> SpatialTransformer:
    return SpatialTransformer(
        config.channels[level],
        config.heads[level],
        config.context_width,
        depth=config.depth[level],
        linear=config.linear_projection,
        groups=config.groups,
        dropout=config.dropout,
        only_cross=config.only_cross is not None and config.only_cross[level] and not middle,
    )


class DownBlock(nn.Module):
    """One level on the way down; returns its output and all that the way up will need of it."""

    def __init__(self, config: UNetConfig, level: int) -> None:
        super().__init__()
        c_in, c_out = config.channels[max(level - 1, 0)], config.channels[level]
        layers = range(config.layers_per_block)
        self.resnets = nn.ModuleList(_resnet(config, c_in if i == 0 else c_out, c_out) for i in layers)
        self.attentions = (
            nn.ModuleList(_transformer(config, level) for _ in layers) if config.attention[level] else None
        )
        last = level == len(config.channels) - 1
        self.downsample = None if last else Downsample(c_out, symmetric=True)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips = []
        for i, resnet in enumerate(self.resnets):
            x = resnet(x, time)
            if self.attentions is not None:
                x = self.attentions[i](x, context)
            skips.append(x)
        if self.downsample is not None:
            x = self.downsample(x)
            skips.append(x)
        return x, skips


class MidBlock(nn.Module):
    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        width = config.channels[-1]
        self.resnets = nn.ModuleList(_resnet(config, width, width) for _ in range(2))
        self.attention = _transformer(config, len(config.channels) - 1, middle=True)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        x = self.attention(self.resnets[0](x, time), context)
        out: Tensor = self.resnets[1](x, time)
        return out


class UpBlock(nn.Module):
    """One level on the way up; every residual block first takes back one skip, the last one first."""

    def __init__(self, config: UNetConfig, level: int, c_in: int, skips: list[int]) -> None:
        super().__init__()
        c_out = config.channels[level]
        widths = [c_in] + [c_out] * (len(skips) - 1)
        self.resnets = nn.ModuleList(_resnet(config, w + s, c_out) for w, s in zip(widths, skips, strict=True))
        self.attentions = nn.ModuleList(_transformer(config, level) for _ in skips) if config.attention[level] else None
        self.upsample = None if level == 0 else Upsample(c_out)

    def forward(self, x: Tensor, skips: list[Tensor], time: Tensor, context: Tensor) -> Tensor:
        for i, resnet in enumerate(self.resnets):
            x = resnet(torch.cat([x, skips.pop()], dim=1), time)
            if self.attentions is not None:
                x = self.attentions[i](x, context)
        if self.upsample is not None:
            # To the next skip's size: on canvases that 2^levels does not divide, halving rounded up.
            x = self.upsample(x, tuple(skips[-1].shape[-2:]))
        return x


class UNet(nn.Module):
    """eps_theta(z_t, t, tau(y)): (B, c, h, w), t (B,), condition -> (B, c_out, h, w).

    What its output means (noise, x0, velocity) is the Denoiser's knowledge. ValueError for wrong shapes.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], config.time_width)
        self.class_embedding = None if config.classes is None else nn.Embedding(config.classes, config.time_width)
        self.add_embedding = (
            None if config.added_width is None else TimeEmbedding(config.added_width, config.time_width)
        )
        self.down_blocks = nn.ModuleList(DownBlock(config, level) for level in range(len(widths)))
        self.mid_block = MidBlock(config)
        self.up_blocks = nn.ModuleList(UpBlock(config, *row) for row in way_up(widths, config.layers_per_block))
        self.conv_norm_out = nn.GroupNorm(config.groups, widths[0], eps=config.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)
        transformers = (module for module in self.modules() if isinstance(module, SpatialTransformer))
        start_at_zero(self, [self.conv_out, *(transformer.proj_out for transformer in transformers)])

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self._check(x, t, condition)
        time = self._embedded(t, condition, x.dtype)
        if condition.channels is not None:
            x = torch.cat([x, condition.channels], dim=1)
        x = self.conv_in(x)
        skips = [x]
        for block in self.down_blocks:
            x, kept = block(x, time, condition.context)
            skips += kept
        x = self.mid_block(x, time, condition.context)
        for block in self.up_blocks:
            x = block(x, skips, time, condition.context)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return out

    def _embedded(self, t: Tensor, condition: Condition, dtype: torch.dtype) -> Tensor:
        """(B, time_width): the time, and what is added to it."""
        time: Tensor = self.time_embedding(self._sinusoids(t, self.config.channels[0]).to(dtype))
        if self.class_embedding is not None:
            time = time + self.class_embedding(condition.classes)
        if self.add_embedding is not None:
            assert condition.pooled is not None
            assert condition.micro is not None
            micro = self._sinusoids(condition.micro.flatten(), self.config.micro_width)
            numbers = micro.view(len(t), -1)  # (B, k * micro_width)
            time = time + self.add_embedding(torch.cat([condition.pooled, numbers], dim=1).to(dtype))
        return time

    def _sinusoids(self, numbers: Tensor, width: int) -> Tensor:
        config = self.config
        return timestep_embedding(numbers, width, flip_sin_to_cos=config.flip_sin_to_cos, freq_shift=config.freq_shift)

    def _check(self, x: Tensor, t: Tensor, condition: Condition) -> None:
        batch, width = x.shape[0], self.config.context_width
        check_picture(x, condition, self.config.in_channels)
        check_times(t, batch)
        context = condition.context
        if context.ndim != 3 or context.shape[0] != batch or context.shape[2] != width:
            raise ValueError(f"the UNet takes a context ({batch}, n, {width}), not {tuple(context.shape)}")
        check_labels(condition.classes, self.config.classes)
        self._check_added(condition)

    def _check_added(self, condition: Condition) -> None:
        needed, each = self.config.added_width, self.config.micro_width
        given = [name for name in ("pooled", "micro") if getattr(condition, name) is not None]
        if needed is None:
            if given:
                raise ValueError(f"the UNet adds nothing to its time, but was given {' and '.join(given)}")
            return
        if condition.pooled is None or condition.micro is None:
            raise ValueError(f"the UNet wants pooled text and micro numbers, but was given {given or 'neither'}")
        pooled, count = condition.pooled.shape[1], condition.micro.shape[1]
        if pooled + each * count != needed:
            raise ValueError(
                f"a pooled text of width {pooled} and {count} numbers of width {each} make {pooled + each * count}, "
                f"but the UNet takes {needed}"
            )
