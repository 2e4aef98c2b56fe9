"""A tiny autoencoder for the latents of a large one: TAESD (Bohan 2023), for previews and fast decoding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["TinyAutoencoder", "TinyConfig"]

BOUND = 3.0
"""What latents are softly bounded to before they are decoded, as TAESD was trained."""


@dataclass(frozen=True)
class TinyConfig:
    """The shape of a tiny autoencoder: residual blocks on each level, and channels, the same on all levels.

    `encoder_blocks` go from the picture to the latents, `decoder_blocks` back; f = 2^(levels - 1).
    `scaling_factor`: from its latents to those that diffusion works in; 1 where it was distilled on these.
    `magnitude` and `shift` say how to store its latents in bytes, z / (2 magnitude) + shift being in [0, 1];
    neither is used in coding, and no more is `force_upcast`, which says that it overflows in half precision.
    """

    encoder_width: int = 64
    decoder_width: int = 64
    encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    decoder_blocks: tuple[int, ...] = (3, 3, 3, 1)
    latent_channels: int = 4
    in_channels: int = 3
    scaling_factor: float = 1.0
    magnitude: float = 3.0
    shift: float = 0.5
    force_upcast: bool = False

    def __post_init__(self) -> None:
        for name in ("encoder_width", "decoder_width", "latent_channels", "in_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"tiny autoencoder {name} {getattr(self, name)} must be at least 1")
        for name in ("encoder_blocks", "decoder_blocks"):
            if not getattr(self, name) or min(getattr(self, name)) < 0:
                raise ValueError(f"tiny autoencoder {name} {getattr(self, name)} must be numbers of at least 0")
        if len(self.encoder_blocks) != len(self.decoder_blocks):
            raise ValueError(
                f"a tiny autoencoder of {len(self.encoder_blocks)} levels down and {len(self.decoder_blocks)} up "
                "would not give pictures of the size it took"
            )
        if not (math.isfinite(self.scaling_factor) and self.scaling_factor > 0):
            raise ValueError(f"tiny autoencoder scaling_factor {self.scaling_factor} must be finite and above 0")

    @property
    def factor(self) -> int:
        """f, pixels a latent cell stands for along each side."""
        return int(2 ** (len(self.encoder_blocks) - 1))


class TinyBlock(nn.Module):
    """Three convolutions with a residual, (B, c, h, w) -> the same; no norm, so that nothing is lost in halves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


class TinyEncoder(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> (B, c, H/f, W/f)."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        width = config.encoder_width
        layers: list[nn.Module] = []
        for level, blocks in enumerate(config.encoder_blocks):
            down = nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False)
            layers.append(down if level else _conv(config.in_channels, width))
            layers.extend(TinyBlock(width) for _ in range(blocks))
        self.layers = nn.Sequential(*layers, _conv(width, config.latent_channels))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers((x + 1.0) / 2.0)
        return out


class TinyDecoder(nn.Module):
    """(B, c, h, w) -> (B, 3, f*h, f*w), about [-1, 1]."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        width = config.decoder_width
        layers: list[nn.Module] = [_conv(config.latent_channels, width), nn.ReLU()]
        for level, blocks in enumerate(config.decoder_blocks):
            if level:
                layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1, bias=False)]
            layers.extend(TinyBlock(width) for _ in range(blocks))
        self.layers = nn.Sequential(*layers, _conv(width, config.in_channels))

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.layers(BOUND * torch.tanh(z / BOUND))
        return 2.0 * out - 1.0


class TinyAutoencoder(nn.Module):
    """Codes as the large autoencoder that it was distilled from: latents are in the scale diffusion works in."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = TinyEncoder(config)
        self.decoder = TinyDecoder(config)

    @property
    def doors(self) -> list[nn.Module]:
        """As the larger autoencoders'."""
        return [self.encoder, self.decoder]

    def encode(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> latents (B, c, H/f, W/f).

        ValueError unless x has the configured channels and sides divisible by f.
        """
        self.check_pictures(x)
        z: Tensor = self.encoder(x)
        return z * self.config.scaling_factor

    def decode(self, z: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, 3, f*h, f*w), about [-1, 1], not clamped. ValueError for other channels."""
        self.check_latents(z)
        x: Tensor = self.decoder(z / self.config.scaling_factor)
        return x

    def check_pictures(self, x: Tensor) -> None:
        """ValueError for a shape that cannot be encoded."""
        f, c = self.config.factor, self.config.in_channels
        if x.ndim != 4 or x.shape[1] != c or x.shape[2] % f or x.shape[3] % f or not x.numel():
            raise ValueError(f"pictures of shape {tuple(x.shape)} cannot be encoded: need (B, {c}, H, W), {f} | H, W")

    def check_latents(self, z: Tensor) -> None:
        """ValueError for a shape that cannot be decoded."""
        if z.ndim != 4 or z.shape[1] != self.config.latent_channels:
            need = f"(B, {self.config.latent_channels}, h, w)"
            raise ValueError(f"latents of shape {tuple(z.shape)} cannot be decoded: need {need}")


def _conv(c_in: int, c_out: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, padding=1)
