"""The first stage of models that diffuse pictures themselves: none, f = 1."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["PixelConfig", "Pixels"]


@dataclass(frozen=True)
class PixelConfig:
    """What every first stage tells of itself. `sample_size`: the side of a tile, where pictures are cut into some."""

    latent_channels: int = 3
    sample_size: int = 256

    def __post_init__(self) -> None:
        for name in ("latent_channels", "sample_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"pixels' {name} {getattr(self, name)} must be at least 1")

    @property
    def in_channels(self) -> int:
        return self.latent_channels

    @property
    def factor(self) -> int:
        """Pixels a latent cell stands for along each side."""
        return 1

    @property
    def scaling_factor(self) -> float:
        return 1.0


class Pixels(nn.Module):
    """z = x, x~ = z: latents are the pictures, (B, 3, H, W) in [-1, 1]. It has no weights."""

    def __init__(self, config: PixelConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def doors(self) -> list[nn.Module]:
        """As the autoencoders': there is nothing to call."""
        return []

    def encode(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> the same. ValueError for other channels."""
        self.check_pictures(x)
        return x

    def decode(self, z: Tensor) -> Tensor:
        """(B, 3, H, W) -> the same. ValueError for other channels."""
        self.check_latents(z)
        return z

    def check_pictures(self, x: Tensor) -> None:
        """ValueError for a shape that is no picture's."""
        if x.ndim != 4 or x.shape[1] != self.config.latent_channels or not x.numel():
            need = f"(B, {self.config.latent_channels}, H, W)"
            raise ValueError(f"pictures of shape {tuple(x.shape)} cannot be encoded: need {need}")

    def check_latents(self, z: Tensor) -> None:
        """ValueError for a shape that cannot be decoded."""
        if z.ndim != 4 or z.shape[1] != self.config.latent_channels:
            need = f"(B, {self.config.latent_channels}, h, w)"
            raise ValueError(f"latents of shape {tuple(z.shape)} cannot be decoded: need {need}")
