"""The first stage: the KL-regularised autoencoder between pixels and latents (LDM, section 3.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentbrush.nn.attention import Attention
from latentbrush.nn.blocks import Downsample, ResBlock, Upsample, check_groups

__all__ = ["AutoencoderConfig", "AutoencoderKL", "Decoder", "Encoder", "Posterior"]


@dataclass(frozen=True)
class AutoencoderConfig:
    """The shape of an autoencoder; downsampling factor f = 2^(levels - 1).

    `scaling_factor` brings latents to unit variance (SD 1: 0.18215). `quant_convs` are the 1x1
    convolutions between encoder, latents and decoder. `sample_size` (pixels) is what it was trained at.
    `force_upcast`: whether it overflows in half precision, as its files say; nothing here is computed by it.
    """

    channels: tuple[int, ...] = (128, 256, 512, 512)
    latent_channels: int = 4
    layers_per_block: int = 2
    mid_attention: bool = True
    groups: int = 32
    in_channels: int = 3
    quant_convs: bool = True
    scaling_factor: float = 0.18215
    sample_size: int = 512
    force_upcast: bool = True

    def __post_init__(self) -> None:
        check_groups(self.channels, self.groups)
        for name in ("latent_channels", "layers_per_block", "in_channels", "sample_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"autoencoder {name} {getattr(self, name)} must be at least 1")
        if not (math.isfinite(self.scaling_factor) and self.scaling_factor > 0):
            raise ValueError(f"autoencoder scaling_factor {self.scaling_factor} must be finite and above 0")

    @property
    def factor(self) -> int:
        """f, pixels a latent cell stands for along each side."""
        return int(2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class Posterior:
    """q(z | x) = N(mean, exp(logvar)), each (B, c, h, w), in the scale diffusion works in.

    `certain`: all of it lies in the mean, as an autoencoder without a posterior has it, and no draw is needed.
    """

    mean: Tensor
    logvar: Tensor
    certain: bool = False

    @classmethod
    def point(cls, latents: Tensor) -> Posterior:
        """The certain one: every draw is `latents`."""
        return cls(latents, torch.full_like(latents, -math.inf), certain=True)

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A reparameterised draw; the noise comes from a CPU generator whatever the device."""
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype)
        return self.at(noise.to(self.mean.device))

    def at(self, noise: Tensor) -> Tensor:
        """The draw that a unit Gaussian `noise` makes; more noises (B, c, h, w) than means share one mean."""
        return self.mean + self.std * noise

    @property
    def std(self) -> Tensor:
        return (0.5 * self.logvar).exp()

    def kl(self) -> Tensor:
        """KL(q || N(0, I)) in nats, summed over each picture's latent: (B,)."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1.0 - self.logvar).flatten(1).sum(1)


class AttentionBlock(nn.Module):
    """One head of self-attention over all cells of a (B, c, h, w) map, with a residual."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.attention = Attention(channels, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attention(self.group_norm(x).flatten(2).transpose(1, 2))  # (B, h*w, c)
        return x + out.transpose(1, 2).reshape(x.shape)


class MidBlock(nn.Module):
    def __init__(self, channels: int, config: AutoencoderConfig) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResBlock(channels, channels, groups=config.groups) for _ in range(2))
        self.attention = AttentionBlock(channels, config.groups) if config.mid_attention else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        if self.attention is not None:
            x = self.attention(x)
        out: Tensor = self.resnets[1](x)
        return out


class DownBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, config: AutoencoderConfig, *, last: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResBlock(c_in if i == 0 else c_out, c_out, groups=config.groups) for i in range(config.layers_per_block)
        )
        self.downsample = None if last else Downsample(c_out, symmetric=False)

    def forward(self, x: Tensor) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x)
        return x if self.downsample is None else self.downsample(x)


class UpBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, config: AutoencoderConfig, *, last: bool) -> None:
        super().__init__()
        # The decoder has one residual block a level more than the encoder.
        self.resnets = nn.ModuleList(
            ResBlock(c_in if i == 0 else c_out, c_out, groups=config.groups) for i in range(config.layers_per_block + 1)
        )
        self.upsample = None if last else Upsample(c_out)

    def forward(self, x: Tensor) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x)
        return x if self.upsample is None else self.upsample(x)


class Encoder(nn.Module):
    """(B, 3, H, W) -> (B, moments * c, H/f, W/f): mean and log-variance, or with `moments` 1 the latent itself."""

    def __init__(self, config: AutoencoderConfig, *, moments: int = 2) -> None:
        super().__init__()
        widths = config.channels
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            DownBlock(widths[max(i - 1, 0)], width, config, last=i == len(widths) - 1) for i, width in enumerate(widths)
        )
        self.mid_block = MidBlock(widths[-1], config)
        self.conv_norm_out = nn.GroupNorm(config.groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], moments * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))
        return out


class Decoder(nn.Module):
    """(B, c, h, w) -> (B, 3, f*h, f*w)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths = config.channels[::-1]
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = MidBlock(widths[0], config)
        self.up_blocks = nn.ModuleList(
            UpBlock(widths[max(i - 1, 0)], width, config, last=i == len(widths) - 1) for i, width in enumerate(widths)
        )
        self.conv_norm_out = nn.GroupNorm(config.groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], config.in_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return out


class AutoencoderKL(nn.Module):
    """z = E(x), x~ = D(z). Pixels are in [-1, 1]; latents come and go in the scale diffusion works in."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        c = config.latent_channels
        self.quant_conv = nn.Conv2d(2 * c, 2 * c, 1) if config.quant_convs else None
        self.post_quant_conv = nn.Conv2d(c, c, 1) if config.quant_convs else None

    @property
    def doors(self) -> list[nn.Module]:
        """Of whatever it does, one of these is called first."""
        doors = (self.encoder, self.decoder, self.post_quant_conv)
        return [door for door in doors if door is not None]

    def encode(self, x: Tensor) -> Posterior:
        """(B, 3, H, W) in [-1, 1] -> the posterior over (B, c, H/f, W/f).

        ValueError unless x has the configured channels and sides divisible by f.
        """
        return self.posterior(self.moments(x))

    def moments(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> mean and log-variance (B, 2c, H/f, W/f), as the encoder has them. ValueError as in encode."""
        self.check_pictures(x)
        moments: Tensor = self.encoder(x)
        return moments if self.quant_conv is None else self.quant_conv(moments)

    def posterior(self, moments: Tensor) -> Posterior:
        """The posterior that `moments` (B, 2c, h, w) mean, in the scale diffusion works in."""
        mean, logvar = moments.chunk(2, dim=1)
        # The published clamp keeps exp() finite in half precision.
        logvar = logvar.clamp(-30.0, 20.0) + 2.0 * math.log(self.config.scaling_factor)
        return Posterior(mean * self.config.scaling_factor, logvar)

    def decode(self, z: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, 3, f*h, f*w), about [-1, 1], not clamped. ValueError for other channels."""
        self.check_latents(z)
        z = z / self.config.scaling_factor
        if self.post_quant_conv is not None:
            z = self.post_quant_conv(z)
        x: Tensor = self.decoder(z)
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

    @torch.no_grad()
    def fold_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Make latents with per-channel `mean` and `std` (c,) standard, inside the 1x1 convolutions.

        encode() then gives (z - mean) / std and decode() undoes it, so that one scalar scaling_factor,
        all that StableDiffusionPipeline knows, still describes the folder. ValueError without them.
        """
        if self.quant_conv is None or self.post_quant_conv is None:
            raise ValueError("an autoencoder without quant_convs has nowhere to fold latent statistics into")
        c = self.config.latent_channels
        mean = mean / self.config.scaling_factor  # the convolutions work before the scale
        quant, post = self.quant_conv, self.post_quant_conv
        assert quant.bias is not None
        assert post.bias is not None
        quant.weight[:c] /= std[:, None, None, None]
        quant.bias[:c] = (quant.bias[:c] - mean) / std
        quant.bias[c:] -= 2.0 * std.log()
        post.bias += post.weight[:, :, 0, 0] @ mean
        post.weight *= std[None, :, None, None]
