"""The convolutional pieces that autoencoder and UNet share."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "DoublingBlock",
    "Downsample",
    "HalvingBlock",
    "ResBlock",
    "Upsample",
    "check_groups",
    "timestep_embedding",
]


def check_groups(channels: tuple[int, ...], groups: int) -> None:
    """ValueError unless `groups` divides every number of channels."""
    if not channels or min(channels) < 1 or groups < 1:
        raise ValueError(f"channels {channels} and norm groups {groups} must be positive")
    for count in channels:
        if count % groups:
            raise ValueError(f"{count} channels are not divisible by {groups} norm groups")


def timestep_embedding(t: Tensor, dim: int, *, flip_sin_to_cos: bool = True, freq_shift: float = 0.0) -> Tensor:
    """Sinusoids of the time step (DDPM, section 3.3): t (B,), fractional allowed -> float32 (B, dim).

    `flip_sin_to_cos` puts the cosines first, as the Stable Diffusion family does; the frequencies fall
    geometrically from 1 to 10000^-(1 - 1 / (dim / 2 - freq_shift)). Always float32: half precision cannot
    hold the phase of t = 999.
    """
    half = dim // 2
    exponent = -math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=t.device) / (half - freq_shift)
    phase = t.float()[:, None] * exponent.exp()[None]
    parts = (phase.cos(), phase.sin()) if flip_sin_to_cos else (phase.sin(), phase.cos())
    return F.pad(torch.cat(parts, dim=-1), (0, dim % 2))


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice, with a residual; between them the time embedding is added.

    (B, c_in, h, w), time (B, time_width) or None -> (B, c_out, h, w). `scale_shift`: the time scales and shifts what
    comes from the second norm instead (ADM, Dhariwal & Nichol 2021, section 3.1).
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        time_width: int | None = None,
        groups: int = 32,
        eps: float = 1e-6,
        dropout: float = 0.0,
        scale_shift: bool = False,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.norm1 = nn.GroupNorm(groups, c_in, eps=eps)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_width, (1 + scale_shift) * c_out) if time_width else None
        self.norm2 = nn.GroupNorm(groups, c_out, eps=eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else None

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        return self._through(x, time, lambda same: same)

    def _through(self, x: Tensor, time: Tensor | None, resized: Callable[[Tensor], Tensor]) -> Tensor:
        """`resized`: what changes the size of both branches."""
        h = self.conv1(resized(F.silu(self.norm1(x))))
        x = resized(x)
        if self.time_emb_proj is None:
            h = self.norm2(h)
        else:
            assert time is not None
            said = self.time_emb_proj(F.silu(time))[:, :, None, None]
            if self.scale_shift:
                scale, shift = said.chunk(2, dim=1)
                h = self.norm2(h) * (1.0 + scale) + shift
            else:
                h = self.norm2(h + said)
        h = self.conv2(self.dropout(F.silu(h)))
        out: Tensor = h + (x if self.conv_shortcut is None else self.conv_shortcut(x))
        return out


class HalvingBlock(ResBlock):
    """A residual block that halves the sides, by means of 2 x 2 cells: (B, c, h, w) -> (B, c, h/2, w/2)."""

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        return self._through(x, time, lambda whole: F.avg_pool2d(whole, 2))


class DoublingBlock(ResBlock):
    """A residual block with nearest-neighbour enlargement to `size` (twice as large by default)."""

    def forward(self, x: Tensor, time: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        size = (2 * x.shape[-2], 2 * x.shape[-1]) if size is None else size
        return self._through(x, time, lambda small: F.interpolate(small, size=size, mode="nearest"))


class Downsample(nn.Module):
    """A convolution of stride 2. The autoencoder pads right and below only, the UNet on all sides."""

    def __init__(self, channels: int, *, symmetric: bool) -> None:
        super().__init__()
        self.symmetric = symmetric
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1 if symmetric else 0)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x if self.symmetric else F.pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    """Nearest-neighbour enlargement to `size` (twice as large by default), then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        size = (2 * x.shape[-2], 2 * x.shape[-1]) if size is None else size
        out: Tensor = self.conv(F.interpolate(x, size=size, mode="nearest"))
        return out
