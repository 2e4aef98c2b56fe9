"""Pixels to pictures, from bytes and from the numbers that networks see."""

from __future__ import annotations

import numpy as np
import torch

from latentbrush.data.pixels import to_bytes, to_image, to_signed


def test_bytes_and_numbers_make_one_picture() -> None:
    pixels = torch.randint(256, (3, 4, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert torch.equal(to_bytes(to_signed(pixels)), pixels)
    for given in (pixels, to_signed(pixels), pixels.flip(-1).flip(-1), pixels.permute(1, 2, 0).permute(2, 0, 1)):
        image = to_image(given)
        assert (image.mode, image.size) == ("RGB", (6, 4))
        assert np.array_equal(np.asarray(image), pixels.permute(1, 2, 0).numpy())
