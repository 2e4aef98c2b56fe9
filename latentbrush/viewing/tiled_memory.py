"""The memory that encoding and decoding in tiles takes, without walking over every tile: those of one shape cost the
same, and so do a picture's rows from the second on, and the pictures of a batch.

What comes out is what the whole walk of `nn.tiling` would count, to the byte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from latentbrush.nn import AutoencoderKL, Posterior
from latentbrush.nn.first_stage import Tileable
from latentbrush.nn.tiling import TileSize, in_tiles, tile_size
from latentbrush.viewing.live_bytes import LiveBytes, counted

__all__ = ["tiled_decode_peak", "tiled_encode_peak"]

Run = Callable[[Tensor], Tensor]
STEADY = 3
"""Rows of whole tiles, from the last of which on every further one finds as much alive as that."""


@dataclass(frozen=True)
class _Walk:
    """One picture in tiles: bytes alive at most, what is given not counted, and of the result: all its numbers, and
    what of them was not there before."""

    peak: int
    size: int
    held: int


def tiled_decode_peak(autoencoder: Tileable, shape: tuple[int, int, int, int], dtype: torch.dtype) -> int:
    """Bytes alive at most in `tiled_decode` of latents (B, c, h, w) on the meta device, they themselves included."""
    batch, *one = shape
    given = prod(one) * dtype.itemsize
    walk = _walk(autoencoder.decode, (1, *one), dtype, tile_size(autoencoder.config), write=autoencoder.config.factor)
    if batch == 1:
        return given + walk.peak
    # One picture after the other is finished and kept, then all are joined.
    return batch * given + max((batch - 1) * walk.held + walk.peak, batch * (walk.held + walk.size))


def tiled_encode_peak(autoencoder: Tileable, shape: tuple[int, int, int, int], dtype: torch.dtype) -> int:
    """Bytes alive at most in `tiled_encode` of one picture (1, 3, H, W) on the meta device, itself included."""
    f, given = autoencoder.config.factor, prod(shape) * dtype.itemsize
    run: Run
    finish: Callable[[Tensor], Posterior]
    if isinstance(autoencoder, AutoencoderKL):
        run, finish = autoencoder.moments, autoencoder.posterior
    else:
        run, finish = autoencoder.encode, Posterior.point
    walk = _walk(run, shape, dtype, tile_size(autoencoder.config), read=f)
    with counted() as live:
        channels = walk.size // dtype.itemsize * f * f // (shape[2] * shape[3])
        finish(torch.empty(1, channels, shape[2] // f, shape[3] // f, dtype=dtype, device="meta"))
    return given + max(walk.peak, live.peak - walk.size + walk.held)


def _walk(run: Run, shape: tuple[int, ...], dtype: torch.dtype, size: TileSize, read: int = 1, write: int = 1) -> _Walk:
    """`in_tiles` of one picture, low enough for nothing to be repeated, and with what its further rows would add."""
    step, height = size.side - size.overlap, shape[-2] // read
    most = size.side + STEADY * step
    low = height if height < most else most - step + (height - most) % step
    with counted() as live:
        x = torch.empty(*shape[:-2], low * read, shape[-1], dtype=dtype, device="meta")
        given = live.now
        out = in_tiles(_Once(run, live), x, size, read=read, write=write)
        held = live.now - given
    more = out.nbytes // low * (height - low)  # of the result, which is there from the first tile on
    return _Walk(live.peak - given + more, out.nbytes + more, held + more if held else 0)


class _Once:
    """A network that runs once for every shape, and is afterwards what it then took."""

    def __init__(self, run: Run, live: LiveBytes) -> None:
        self._run, self._live = run, live
        self._seen: dict[torch.Size, tuple[int, torch.Size]] = {}

    def __call__(self, x: Tensor) -> Tensor:
        live = self._live
        if x.shape in self._seen:
            most, shape = self._seen[x.shape]
            live.peak = max(live.peak, live.now + most)
            return x.new_empty(shape)
        before, peak = live.now, live.peak
        live.peak = before
        out = self._run(x)
        if live.now - before == out.nbytes:  # not a view of what was given, which costs nothing to make again
            self._seen[x.shape] = live.peak - before, out.shape
        live.peak = max(peak, live.peak)
        return out
