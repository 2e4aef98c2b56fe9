"""The first stage with vector quantisation (VQGAN, Esser et al. 2021; LDM, section 3.1, "VQ-reg.")."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentbrush.nn.autoencoder import AutoencoderConfig, Decoder, Encoder

__all__ = ["Quantised", "VQAutoencoder", "VQConfig"]

CELLS_AT_ONCE = 4096
"""Latent cells compared with the codebook at once: their distances to all its entries lie in memory."""


@dataclass(frozen=True)
class VQConfig:
    """The shape of a VQ autoencoder; downsampling factor f = 2^(levels - 1).

    `latent_channels`: of the latents that diffusion works in, which is the width of the codebook's entries;
    `inner_channels`: of what encoder and decoder write and read, None for as many. `codebook_size`: its entries.
    `scaling_factor`: as the KL autoencoder's; the published ones diffuse at 1.
    """

    channels: tuple[int, ...] = (128, 256, 512)
    latent_channels: int = 3
    inner_channels: int | None = None
    codebook_size: int = 8192
    layers_per_block: int = 2
    mid_attention: bool = True
    groups: int = 32
    in_channels: int = 3
    scaling_factor: float = 1.0
    sample_size: int = 256

    def __post_init__(self) -> None:
        for name in ("latent_channels", "codebook_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"autoencoder {name} {getattr(self, name)} must be at least 1")
        self.body()

    def body(self) -> AutoencoderConfig:
        """Encoder and decoder, which are those of the KL autoencoder. ValueError for what it cannot be."""
        return AutoencoderConfig(
            channels=self.channels,
            latent_channels=self.latent_channels if self.inner_channels is None else self.inner_channels,
            layers_per_block=self.layers_per_block,
            mid_attention=self.mid_attention,
            groups=self.groups,
            in_channels=self.in_channels,
            scaling_factor=self.scaling_factor,
            sample_size=self.sample_size,
        )

    @property
    def factor(self) -> int:
        """f, pixels a latent cell stands for along each side."""
        return int(2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class Quantised:
    """Latents with every cell replaced by the nearest entry of the codebook.

    `latents` (B, c, h, w), before the scale, pass gradients straight through to what was quantised (VQ-VAE, van den
    Oord et al. 2017, section 3.2); `indices` (B, h, w) of the entries. The last two terms of its equation 3, each
    (B,), as means over a picture's numbers: `codebook` draws the entries to the latents, `commitment` the latents
    to the entries.
    """

    latents: Tensor
    indices: Tensor
    codebook: Tensor
    commitment: Tensor


class Codebook(nn.Embedding):
    """Cells (n, c) -> the index (n,) of the entry at the least Euclidean distance, the first of several."""

    def forward(self, cells: Tensor) -> Tensor:
        kind = torch.float64 if cells.dtype == torch.float64 else torch.float32  # halves mistake one for another
        entries = self.weight.detach().to(kind)
        return torch.cat([torch.cdist(part.to(kind), entries).argmin(1) for part in torch.split(cells, CELLS_AT_ONCE)])

    def entries(self, indices: Tensor) -> Tensor:
        """(..., c) of indices (...)."""
        return F.embedding(indices, self.weight)


class VQAutoencoder(nn.Module):
    """z = E(x), x~ = D(quantise(z)). Pixels are in [-1, 1]; latents come and go in the scale diffusion works in.

    Diffusion works on latents before quantisation, which belongs to the decoder (LDM, section 3.2).
    """

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.config = config
        body, width = config.body(), config.latent_channels
        self.encoder = Encoder(body, moments=1)
        self.decoder = Decoder(body)
        self.quant_conv = nn.Conv2d(body.latent_channels, width, 1)
        self.codebook = Codebook(config.codebook_size, width)
        self.post_quant_conv = nn.Conv2d(width, body.latent_channels, 1)
        # As VQGAN begins: all entries near the middle, or most would never be the nearest of any cell.
        nn.init.uniform_(self.codebook.weight, -1.0 / config.codebook_size, 1.0 / config.codebook_size)

    @property
    def doors(self) -> list[nn.Module]:
        """Of whatever it does, one of these is called first."""
        return [self.encoder, self.codebook, self.post_quant_conv]

    def encode(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> latents (B, c, H/f, W/f), not quantised.

        ValueError unless x has the configured channels and sides divisible by f.
        """
        self.check_pictures(x)
        z: Tensor = self.quant_conv(self.encoder(x))
        return z * self.config.scaling_factor

    def quantise(self, z: Tensor) -> Quantised:
        """Latents (B, c, h, w) in the scale diffusion works in -> their codebook entries. ValueError as `decode`."""
        self.check_latents(z)
        z = z / self.config.scaling_factor
        cells = z.permute(0, 2, 3, 1)  # (B, h, w, c)
        indices = self.codebook(cells.detach().reshape(-1, cells.shape[-1])).view(cells.shape[:-1])
        entries = self.codebook.entries(indices).permute(0, 3, 1, 2)
        return Quantised(
            latents=z + (entries - z).detach(),
            indices=indices,
            codebook=(entries - z.detach()).square().flatten(1).mean(1),
            commitment=(entries.detach() - z).square().flatten(1).mean(1),
        )

    def decode(self, z: Tensor) -> Tensor:
        """(B, c, h, w), quantised here -> (B, 3, f*h, f*w), about [-1, 1], not clamped.

        ValueError for other channels.
        """
        return self.decode_entries(self.quantise(z).latents)

    def decode_indices(self, indices: Tensor) -> Tensor:
        """Codebook indices (B, h, w) -> (B, 3, f*h, f*w). ValueError for an index the codebook has not."""
        size = self.config.codebook_size
        if indices.ndim != 3 or not indices.numel() or int(indices.min()) < 0 or int(indices.max()) >= size:
            raise ValueError(f"indices of shape {tuple(indices.shape)} must be (B, h, w), each from 0 to {size - 1}")
        return self.decode_entries(self.codebook.entries(indices).permute(0, 3, 1, 2))

    def decode_entries(self, entries: Tensor) -> Tensor:
        """What `quantise` gives as latents, (B, c, h, w) -> (B, 3, f*h, f*w)."""
        x: Tensor = self.decoder(self.post_quant_conv(entries))
        return x

    @torch.no_grad()
    def fold_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Give latents with per-channel `mean` (c,) and one `std` () for all channels mean 0 and variance 1, inside
        codebook and 1x1 convolutions: the same pictures, and one scale for whatever diffuses the latents.

        One deviation for all, because cells keep their nearest entry only where all channels shrink alike.
        """
        scale = self.config.scaling_factor
        mean = mean / scale  # the convolutions and the codebook work before the scale
        quant, post = self.quant_conv, self.post_quant_conv
        assert quant.bias is not None
        assert post.bias is not None
        quant.weight /= std
        quant.bias.copy_((quant.bias - mean) / std)
        self.codebook.weight.copy_((self.codebook.weight - mean) / std)
        post.bias += post.weight[:, :, 0, 0] @ mean
        post.weight *= std

    def check_pictures(self, x: Tensor) -> None:
        """ValueError for a shape that cannot be encoded."""
        f, c = self.config.factor, self.config.in_channels
        if x.ndim != 4 or x.shape[1] != c or x.shape[2] % f or x.shape[3] % f or not x.numel():
            raise ValueError(f"pictures of shape {tuple(x.shape)} cannot be encoded: need (B, {c}, H, W), {f} | H, W")

    def check_latents(self, z: Tensor) -> None:
        """ValueError for a shape that cannot be decoded."""
        if z.ndim != 4 or z.shape[1] != self.config.latent_channels or not z.numel():
            need = f"(B, {self.config.latent_channels}, h, w)"
            raise ValueError(f"latents of shape {tuple(z.shape)} cannot be decoded: need {need}")
