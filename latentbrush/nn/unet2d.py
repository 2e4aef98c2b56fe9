"""The UNet of the DDPM family, which reads no words (DDPM, Ho et al. 2020, appendix B; diffusers' UNet2DModel)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentbrush.nn.attention import Attention
from latentbrush.nn.blocks import (
    DoublingBlock,
    Downsample,
    HalvingBlock,
    ResBlock,
    Upsample,
    check_groups,
    timestep_embedding,
)
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

__all__ = ["UNet2D", "UNet2DConfig"]


@dataclass(frozen=True)
class UNet2DConfig:
    """The shape of a UNet without words; the defaults are DDPM's for CIFAR-10.

    One entry a level, from the finest: `channels`, `attention` (has it self-attention), `residual` (is it halved and
    doubled within residual blocks, not by a convolution of stride 2; None for nowhere). `head_width`: channels of an
    attention head, None for a single head; or `heads`: how many on every level, whatever their width (LDM).
    `mid_attention`: has the middle one? Its norm has `mid_groups`, None for as many as all others. `scale_shift`: the
    time scales and shifts within residual blocks (ADM), instead of being added. `symmetric`: convolutions of stride 2
    pad all sides, not right and below alone. `centred`: x comes in [0, 1]. `classes`, as in `UNetConfig`: how many have
    an embedding, which is added to that of the time. `sample_size`: the side of the pictures, or latents, that it was
    trained on.
    """

    sample_size: int = 32
    in_channels: int = 3
    out_channels: int = 3
    channels: tuple[int, ...] = (128, 256, 256, 256)
    layers_per_block: int = 2
    attention: tuple[bool, ...] = (False, True, False, False)
    residual: tuple[bool, ...] | None = None
    head_width: int | None = None
    heads: int | None = None
    mid_attention: bool = True
    mid_groups: int | None = None
    scale_shift: bool = False
    symmetric: bool = False
    groups: int = 32
    norm_eps: float = 1e-6
    flip_sin_to_cos: bool = False
    freq_shift: float = 1.0
    dropout: float = 0.0
    centred: bool = False
    classes: int | None = None

    # What the UNets that read words have beside.
    context_width: ClassVar[int] = 0
    added_width: ClassVar[int | None] = None
    micro_width: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_groups(self.channels, self.groups)
        if self.mid_groups is not None:
            check_groups(self.channels[-1:], self.mid_groups)
        check_levels(self, "attention", "residual")
        check_positive(self, "sample_size", "in_channels", "out_channels", "layers_per_block")
        attended = [width for width, has in zip(self.channels, self.attention, strict=True) if has]
        if self.heads is not None and self.head_width is not None:
            raise ValueError(f"UNet heads {self.heads} and head width {self.head_width} exclude each other; keep one")
        for width in attended + [self.channels[-1]] * self.mid_attention:
            if self.heads is not None and (self.heads < 1 or width % self.heads):
                raise ValueError(f"{width} UNet channels are not divisible by {self.heads} attention heads")
            if self.head_width is not None and (self.head_width < 1 or width % self.head_width):
                raise ValueError(f"{width} UNet channels are not divisible by the head width {self.head_width}")
        if self.classes is not None and self.classes < 1:
            raise ValueError(f"UNet classes {self.classes} must be at least 1, or None for no labels")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"UNet dropout {self.dropout} must lie in [0, 1)")

    @property
    def time_width(self) -> int:
        return 4 * self.channels[0]

    @property
    def least_side(self) -> int:
        """Of what it takes: where halving rounds down, something must be left on the last level."""
        rounds_up = self.symmetric and not any(self.residual or ())
        return 1 if rounds_up else int(2 ** (len(self.channels) - 1))


def _resnet(config: UNet2DConfig, c_in: int, c_out: int, kind: type[ResBlock] = ResBlock) -> ResBlock:
    return kind(
        c_in,
        c_out,
        time_width=config.time_width,
        groups=config.groups,
        eps=config.norm_eps,
        dropout=config.dropout,
        scale_shift=config.scale_shift,
    )


class CellAttention(Attention):
    """Self-attention over all cells of a (B, c, h, w) map, with a residual."""

    def __init__(self, config: UNet2DConfig, channels: int, groups: int) -> None:
        super().__init__(channels, config.heads or channels // (config.head_width or channels), bias=True)
        self.group_norm = nn.GroupNorm(groups, channels, eps=config.norm_eps)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        out = super().forward(self.group_norm(x).flatten(2).transpose(1, 2), context)  # (B, h*w, c)
        return x + out.transpose(1, 2).reshape(x.shape)


def _attentions(config: UNet2DConfig, level: int, count: int) -> nn.ModuleList | None:
    if not config.attention[level]:
        return None
    return nn.ModuleList(CellAttention(config, config.channels[level], config.groups) for _ in range(count))


class DownBlock(nn.Module):
    """One level on the way down; returns its output and all that the way up will need of it."""

    def __init__(self, config: UNet2DConfig, level: int) -> None:
        super().__init__()
        c_in, c_out = config.channels[max(level - 1, 0)], config.channels[level]
        count = config.layers_per_block
        self.resnets = nn.ModuleList(_resnet(config, c_in if i == 0 else c_out, c_out) for i in range(count))
        self.attentions = _attentions(config, level, count)
        self.downsample: nn.Module | None = None
        if level < len(config.channels) - 1:
            residual = config.residual is not None and config.residual[level]
            self.downsample = (
                _resnet(config, c_out, c_out, HalvingBlock)
                if residual
                else Downsample(c_out, symmetric=config.symmetric)
            )

    def forward(self, x: Tensor, time: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips = []
        for i, resnet in enumerate(self.resnets):
            x = resnet(x, time)
            if self.attentions is not None:
                x = self.attentions[i](x)
            skips.append(x)
        if self.downsample is not None:
            x = self.downsample(x, time) if isinstance(self.downsample, HalvingBlock) else self.downsample(x)
            skips.append(x)
        return x, skips


class MidBlock(nn.Module):
    def __init__(self, config: UNet2DConfig) -> None:
        super().__init__()
        width = config.channels[-1]
        self.resnets = nn.ModuleList(_resnet(config, width, width) for _ in range(2))
        groups = config.groups if config.mid_groups is None else config.mid_groups
        self.attention = CellAttention(config, width, groups) if config.mid_attention else None

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        x = self.resnets[0](x, time)
        if self.attention is not None:
            x = self.attention(x)
        out: Tensor = self.resnets[1](x, time)
        return out


class UpBlock(nn.Module):
    """One level on the way up; every residual block first takes back one skip, the last one first."""

    def __init__(self, config: UNet2DConfig, level: int, c_in: int, skips: list[int]) -> None:
        super().__init__()
        c_out = config.channels[level]
        widths = [c_in] + [c_out] * (len(skips) - 1)
        self.resnets = nn.ModuleList(_resnet(config, w + s, c_out) for w, s in zip(widths, skips, strict=True))
        self.attentions = _attentions(config, level, len(skips))
        self.upsample: nn.Module | None = None
        if level:
            residual = config.residual is not None and config.residual[level]
            self.upsample = _resnet(config, c_out, c_out, DoublingBlock) if residual else Upsample(c_out)

    def forward(self, x: Tensor, skips: list[Tensor], time: Tensor) -> Tensor:
        for i, resnet in enumerate(self.resnets):
            x = resnet(torch.cat([x, skips.pop()], dim=1), time)
            if self.attentions is not None:
                x = self.attentions[i](x)
        if self.upsample is not None:
            # To the next skip's size: on canvases that 2^levels does not divide, halving rounded.
            size = (skips[-1].shape[-2], skips[-1].shape[-1])
            double = self.upsample
            x = double(x, time, size) if isinstance(double, DoublingBlock) else double(x, size)
        return x


class UNet2D(nn.Module):
    """eps_theta(x_t, t): (B, c, h, w), t (B,), condition -> (B, c_out, h, w). Of the condition it reads classes and
    channels.

    What its output means (noise, x0, velocity) is the Denoiser's knowledge. ValueError for wrong shapes.
    """

    def __init__(self, config: UNet2DConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], config.time_width)
        self.class_embedding = None if config.classes is None else nn.Embedding(config.classes, config.time_width)
        self.down_blocks = nn.ModuleList(DownBlock(config, level) for level in range(len(widths)))
        self.mid_block = MidBlock(config)
        self.up_blocks = nn.ModuleList(UpBlock(config, *row) for row in way_up(widths, config.layers_per_block))
        self.conv_norm_out = nn.GroupNorm(config.groups, widths[0], eps=config.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)
        attentions = (module for module in self.modules() if isinstance(module, CellAttention))
        start_at_zero(self, [self.conv_out, *(attention.to_out for attention in attentions)])

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self._check(x, t, condition)
        time = self._embedded(t, condition, x.dtype)
        if condition.channels is not None:
            x = torch.cat([x, condition.channels], dim=1)
        x = self.conv_in(2.0 * x - 1.0 if self.config.centred else x)
        skips = [x]
        for block in self.down_blocks:
            x, kept = block(x, time)
            skips += kept
        x = self.mid_block(x, time)
        for block in self.up_blocks:
            x = block(x, skips, time)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return out

    def _embedded(self, t: Tensor, condition: Condition, dtype: torch.dtype) -> Tensor:
        """(B, time_width): the time, and the class that is added to it."""
        config = self.config
        sinusoids = timestep_embedding(
            t, config.channels[0], flip_sin_to_cos=config.flip_sin_to_cos, freq_shift=config.freq_shift
        )
        time: Tensor = self.time_embedding(sinusoids.to(dtype))
        if self.class_embedding is not None:
            time = time + self.class_embedding(condition.classes)
        return time

    def _check(self, x: Tensor, t: Tensor, condition: Condition) -> None:
        config = self.config
        check_picture(x, condition, config.in_channels)
        if min(x.shape[2:]) < config.least_side:
            raise ValueError(f"the UNet takes at least {config.least_side} a side, not {tuple(x.shape[2:])}")
        check_times(t, x.shape[0])
        others = ("pooled", "micro")
        given = [name for name in others if getattr(condition, name) is not None]
        if condition.context.numel() or given:
            raise ValueError(
                f"the UNet reads classes and channels at most, but was given {', '.join(given) or 'a context'}"
            )
        check_labels(condition.classes, config.classes)
