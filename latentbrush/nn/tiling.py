"""The autoencoder in little memory: one picture of a batch at a time, and large ones in tiles that overlap.

Tiles are as large as the pictures that the autoencoder was trained at and overlap by a quarter; where two overlap,
the earlier fades linearly into the later. So does diffusers' AutoencoderKL.enable_tiling, and the numbers agree.
A tile sees nothing beyond its edges (normalisation and attention span whole pictures), so that colours may drift
from tile to tile; what is no larger than a tile is as without tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentbrush.nn.autoencoder import AutoencoderConfig, AutoencoderKL, Posterior
from latentbrush.nn.first_stage import Tileable
from latentbrush.nn.pixels import PixelConfig
from latentbrush.nn.vq import VQConfig

__all__ = ["TileSize", "in_slices", "in_tiles", "tile_size", "tiled_decode", "tiled_encode"]


@dataclass(frozen=True)
class TileSize:
    """In latent cells along each side: of a tile, and how far it reaches into the next."""

    side: int
    overlap: int

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.side:
            raise ValueError(
                f"tiles of {self.side} cells cannot overlap by {self.overlap}; choose 0 to {self.side - 1}"
            )


def tile_size(config: AutoencoderConfig | VQConfig | PixelConfig) -> TileSize:
    """A tile of `sample_size` pixels, overlapping by a quarter, as diffusers has it.

    A side that 4 does not divide is rounded down to one that it does, and is at least 4: overlaps in pixels and in
    latents are then the same place, which diffusers leaves to the configuration.
    """
    side = max(4, config.sample_size // config.factor // 4 * 4)
    return TileSize(side, side // 4)


def in_slices(run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """run(x), one picture of the batch (B, ...) at a time: the same numbers but for rounding."""
    return run(x) if len(x) < 2 else torch.cat([run(one) for one in x.chunk(len(x))])


def tiled_encode(autoencoder: Tileable, x: Tensor, size: TileSize | None = None) -> Posterior:
    """As `posterior_of`: (B, 3, H, W) in [-1, 1] -> the posterior over (B, c, H/f, W/f); None: `tile_size`.

    The moments are blended before they are clamped and scaled. ValueError as there.
    """
    autoencoder.check_pictures(x)
    size, f = size or tile_size(autoencoder.config), autoencoder.config.factor
    if not isinstance(autoencoder, AutoencoderKL):
        encode = autoencoder.encode
        return Posterior.point(in_slices(lambda one: in_tiles(encode, one, size, read=f), x))
    return autoencoder.posterior(in_slices(lambda one: in_tiles(autoencoder.moments, one, size, read=f), x))


def tiled_decode(autoencoder: Tileable, z: Tensor, size: TileSize | None = None) -> Tensor:
    """As the first stage's `decode`: (B, c, h, w) -> (B, 3, f*h, f*w); None: `tile_size`. ValueError as there."""
    autoencoder.check_latents(z)
    size, f = size or tile_size(autoencoder.config), autoencoder.config.factor
    return in_slices(lambda one: in_tiles(autoencoder.decode, one, size, write=f), z)


def in_tiles(run: Callable[[Tensor], Tensor], x: Tensor, size: TileSize, *, read: int = 1, write: int = 1) -> Tensor:
    """run(x) of (B, c, h * read, w * read), tile by tile, as (B, C, h * write, w * write); h, w: latent cells.

    Each tile fades into its upper neighbour first, then into its left one, both already blended. Besides the result
    one row of tiles is kept. What is no larger than a tile is run whole.
    """
    high, wide = x.shape[-2] // read, x.shape[-1] // read
    if high <= size.side and wide <= size.side:
        return run(x)
    step, fade = size.side - size.overlap, size.overlap * write
    out: Tensor | None = None
    above: list[Tensor] = []
    for top in range(0, high, step):
        row: list[Tensor] = []
        for place, left in enumerate(range(0, wide, step)):
            part = run(x[..., _span(top, size.side, read), _span(left, size.side, read)])
            if above:
                part = _faded(above[place], part, fade, dim=-2)
            if row:
                part = _faded(row[-1], part, fade, dim=-1)
            row.append(part)
            if out is None:
                out = part.new_empty(*part.shape[:-2], high * write, wide * write)
            # Beyond `step` the next tile stands, into which this one has faded.
            out[..., _span(top, step, write), _span(left, step, write)] = part[..., : step * write, : step * write]
        above = row
    assert out is not None
    return out


def _span(first: int, cells: int, scale: int) -> slice:
    return slice(first * scale, (first + cells) * scale)


def _faded(before: Tensor, after: Tensor, extent: int, dim: int) -> Tensor:
    """`after`, whose first `extent` rows or columns (fewer where it is shorter) begin as the last of `before`."""
    extent = min(before.shape[dim], after.shape[dim], extent)
    if not extent:
        return after
    weight = torch.arange(extent, dtype=after.dtype, device=after.device) / extent
    weight = weight[:, None] if dim == -2 else weight
    first, rest = after.narrow(dim, 0, extent), after.narrow(dim, extent, after.shape[dim] - extent)
    last = before.narrow(dim, before.shape[dim] - extent, extent)
    return torch.cat([last * (1 - weight) + first * weight, rest], dim)
