"""Random draws that depend on the picture's seed alone, not on its batch, its place there or the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latentbrush.errors import UserError

__all__ = ["MAX_SEED", "PictureNoise", "picture_seeds"]

MAX_SEED = 2**63 - 1


def picture_seeds(seed: int, count: int) -> list[int]:
    """The seeds of `count` pictures (at least 1) asked for with one `seed`: seed, seed + 1, and so on.

    Raises `UserError` where one of them lies outside 0 .. 2**63 - 1.
    """
    if count < 1:
        raise UserError(f"{count} pictures are asked for; ask for at least 1")
    if seed < 0 or seed + count - 1 > MAX_SEED:
        raise UserError(
            f"seed {seed} for {count} pictures; seeds lie in 0 .. {MAX_SEED}, "
            f"so choose one from 0 to {MAX_SEED - count + 1}"
        )
    return [seed + i for i in range(count)]


class PictureNoise:
    """Unit Gaussian noise for a batch, one generator a picture.

    Each call draws the next noise of every picture: on the CPU, in the model's dtype (a float16 draw is
    no rounded float32 draw), one picture at a time, so that picture i is bit-identical in any company.
    The values are those of diffusers' `randn_tensor` with a list of generators.

    `seeds`: one a picture, each in 0 .. 2**63 - 1; `shape`: (c, h, w); a call returns (len(seeds), c, h, w), or with
    another number of `channels` than c.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: tuple[int, int, int],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device
        self.generators = [torch.Generator("cpu").manual_seed(picture_seeds(s, 1)[0]) for s in seeds]

    def __call__(self, channels: int | None = None) -> Tensor:
        c, h, w = self.shape
        shape = (1, c if channels is None else channels, h, w)
        draws = [torch.randn(shape, generator=g, dtype=self.dtype) for g in self.generators]
        return torch.cat(draws).to(self.device)
