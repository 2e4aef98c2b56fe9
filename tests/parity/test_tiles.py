"""Tiles and slices of the autoencoder agree with diffusers' enable_tiling and enable_slicing, in float64.

1e-9 relative to the largest number: both sides compute the same sums, in another order here and there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL as TheirAutoencoder
from tiny import FACTOR, tiny_autoencoder
from torch import Tensor

from latentbrush.formats import load_autoencoder
from latentbrush.nn import AutoencoderKL, tiled_decode, tiled_encode
from latentbrush.nn.tiling import in_slices

pytestmark = pytest.mark.capability("tiles")

# In pixels; tiles of 32 begin at 0, 24, 48, ...: none, one and several rows and columns, with last ones that are
# shorter than the overlap (28, 52), as long (32 + 24) and longer.
SIZES = [(32, 32), (32, 36), (56, 32), (52, 28), (60, 100), (80, 64)]


def close(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == expected.dtype == torch.float64
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= 1e-9 * float(expected.abs().max())


def noise(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def both(folder: Path, **changes: Any) -> tuple[AutoencoderKL, TheirAutoencoder]:
    theirs = tiny_autoencoder(sample_size=32, **changes)
    theirs.save_pretrained(folder)
    return load_autoencoder(folder, dtype=torch.float64), theirs.double()


@pytest.mark.parametrize("sliced", [False, True])
@pytest.mark.parametrize(
    "changes", [{}, {"mid_block_add_attention": False}, {"use_quant_conv": False, "use_post_quant_conv": False}]
)
def test_tiles(changes: dict[str, Any], sliced: bool, tmp_path: Path) -> None:
    ours, theirs = both(tmp_path, **changes)
    theirs.enable_tiling()
    if sliced:
        theirs.enable_slicing()
    scale = theirs.config.scaling_factor
    for height, width in SIZES:
        x, z = noise(2, 3, height, width).clamp(-1, 1), noise(2, 4, height // FACTOR, width // FACTOR)
        with torch.no_grad():
            found, expected = tiled_encode(ours, x), theirs.encode(x).latent_dist
            close(found.mean, expected.mean * scale)
            close(found.logvar.exp().sqrt(), expected.std * scale)
            pixels = tiled_decode(ours, z)
            close(pixels, theirs.decode(z / scale).sample)
            apart = float((pixels - ours.decode(z)).abs().max())
        assert (apart > 1e-3) == (max(height, width) > 32)  # tiles were at work, and only where they must


def test_slices_are_the_batch(tmp_path: Path) -> None:
    ours, _ = both(tmp_path)
    sizes: list[int] = []
    ours.decoder.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    z = noise(3, 4, 6, 9)
    with torch.no_grad():
        close(in_slices(ours.decode, z), ours.decode(z))
    assert sizes == [1, 1, 1, 3]
