"""Tiles: where they begin and how they fade, on functions whose result is known; and what cannot be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latentbrush.nn import AutoencoderConfig, AutoencoderKL, tiled_decode, tiled_encode
from latentbrush.nn.tiling import TileSize, in_tiles, tile_size

pytestmark = pytest.mark.capability("tiles")


@pytest.mark.parametrize(("read", "write"), [(1, 1), (1, 3), (2, 1)])
@pytest.mark.parametrize("overlap", [0, 1, 2, 3])
def test_what_does_not_depend_on_its_surroundings_is_as_without_tiles(read: int, write: int, overlap: int) -> None:
    def run(x: Tensor) -> Tensor:
        return x[..., ::read, ::read].repeat_interleave(write, -2).repeat_interleave(write, -1)

    for high, wide in [(4, 4), (5, 4), (3, 9), (11, 14)]:
        x = torch.randn(2, 3, high * read, wide * read, dtype=torch.float64)
        torch.testing.assert_close(in_tiles(run, x, TileSize(4, overlap), read=read, write=write), run(x))


def test_one_tile_fades_into_the_next() -> None:
    """Each tile is its own number: 1, 2, 3 ..."""
    calls: list[tuple[int, int]] = []

    def run(x: Tensor) -> Tensor:
        calls.append((x.shape[-2], x.shape[-1]))
        return torch.full_like(x, len(calls))

    out = in_tiles(run, torch.zeros(1, 1, 2, 10), TileSize(4, 2))
    assert calls == [(2, 4), (2, 4), (2, 4), (2, 4), (2, 2)]
    assert out[0, 0, 0].tolist() == [1, 1, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5]
    calls.clear()
    upright = in_tiles(run, torch.zeros(1, 1, 10, 2), TileSize(4, 2))
    assert upright[0, 0, :, 1].tolist() == out[0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("sample_size", "expected"), [(512, (64, 16)), (32, (4, 1)), (100, (12, 3)), (48, (4, 1)), (8, (4, 1))]
)
def test_the_size_of_a_tile(sample_size: int, expected: tuple[int, int]) -> None:
    size = tile_size(AutoencoderConfig(sample_size=sample_size))
    assert (size.side, size.overlap) == expected


def test_any_configuration_gives_the_whole_picture() -> None:
    """Where a quarter of a tile is no whole cell, pictures and latents still have their sizes."""
    config = AutoencoderConfig(channels=(4, 4), layers_per_block=1, mid_attention=False, groups=2, sample_size=12)
    autoencoder = AutoencoderKL(config)
    with torch.no_grad():
        assert tiled_decode(autoencoder, torch.zeros(1, 4, 9, 14)).shape == (1, 3, 18, 28)
        assert tiled_encode(autoencoder, torch.zeros(1, 3, 18, 28)).mean.shape == (1, 4, 9, 14)


def test_no_call_sees_more_than_a_tile() -> None:
    config = AutoencoderConfig(channels=(4, 4), layers_per_block=1, mid_attention=False, groups=2, sample_size=8)
    autoencoder = AutoencoderKL(config)
    seen: list[tuple[int, ...]] = []
    for network in (autoencoder.encoder, autoencoder.decoder):
        network.register_forward_pre_hook(lambda _, args: seen.append((len(args[0]), *args[0].shape[2:])))
    with torch.no_grad():
        tiled_decode(autoencoder, torch.zeros(2, 4, 20, 10))
        assert max(seen) == (1, 4, 4)
        seen.clear()
        tiled_encode(autoencoder, torch.zeros(2, 3, 40, 20))
        assert max(seen) == (1, 8, 8)


def test_what_cannot_be_is_refused_as_without_tiles() -> None:
    autoencoder = AutoencoderKL(AutoencoderConfig(channels=(4, 4), layers_per_block=1, groups=2, sample_size=8))
    with pytest.raises(ValueError, match=r"pictures of shape \(1, 3, 33, 32\) cannot be encoded"):
        tiled_encode(autoencoder, torch.zeros(1, 3, 33, 32))
    with pytest.raises(ValueError, match=r"latents of shape \(1, 3, 32, 32\) cannot be decoded"):
        tiled_decode(autoencoder, torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="tiles of 4 cells cannot overlap by 4; choose 0 to 3"):
        TileSize(4, 4)
