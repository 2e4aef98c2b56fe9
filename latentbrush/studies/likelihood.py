"""Bits per dimension of real pictures by a model: its variational bound, through the first stage where there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from latentbrush.data.pixels import to_signed
from latentbrush.diffusion import Bound, Denoise, Denoised, Level, PictureNoise, bound_levels, variational_bound
from latentbrush.diffusion.bound import Decoder
from latentbrush.evaluation.bits import (
    RateDistortion,
    StageNats,
    best_deviation,
    join_bounds,
    picture_bits,
    rate_distortion,
    stage_nats,
)
from latentbrush.evaluation.measurement import Figure
from latentbrush.evaluation.metrics import mean_figure
from latentbrush.evaluation.sets import PictureSet
from latentbrush.latents import decoded, encoded
from latentbrush.model import LatentDiffusion
from latentbrush.nn import Pixels, Posterior

__all__ = ["Bits", "OnEstimate", "measure_bits"]

BYTES = 127.5
OnEstimate = Callable[[int, Level, Tensor], None]
REFUSAL = "the autoencoder's picture of an original is not finite; its weights are damaged: get them anew"


@dataclass(frozen=True)
class Bits:
    """Of n pictures: `pixels` (n,), bits per dimension of the pictures, None for a first stage without a posterior;
    `latents` (n,), of what diffusion works in, of a density (which may be negative) unless that is pixels itself.

    `curve`: what the bits down to each level buy; `deviation`: of the decoder's Gaussian, in 1/255, if there is one;
    `bare`: diffusion works in pixels themselves.
    """

    pixels: Tensor | None
    latents: Tensor
    curve: RateDistortion
    deviation: float | None
    bare: bool

    def figures(self, seed: int = 0) -> dict[str, Figure]:
        found = {}
        if self.pixels is not None:
            found["bits per dimension"] = mean_figure(self.pixels, seed, lower=True)
        if not self.bare:
            found["bits per latent dimension"] = mean_figure(self.latents, seed, lower=True)
        if self.deviation is not None:
            found["deviation of the decoder, 1/255"] = Figure(value=self.deviation, lower_is_better=True)
        return found


@torch.inference_mode()
def measure_bits(
    model: LatentDiffusion,
    pictures: PictureSet,
    said: Sequence[str | int | None],
    *,
    steps: int | None = None,
    seed: int = 0,
    batch: int = 64,
    on_call: Callable[[int, int], None] | None = None,
    on_estimate: OnEstimate | None = None,
) -> Bits:
    """The variational bound of real pictures, picture i told by said[i], in `steps` steps (None: all there are).

    Without guidance, of which a likelihood knows nothing. All of picture i's noise is that of seed + i. `on_call(done,
    total)` counts network calls; `on_estimate(first, level, x0)` is told what the network makes of the pictures from
    the first-th on at each level. UserError for what the model cannot do.
    """
    levels = bound_levels(model.schedule, steps)
    parts = [(first, min(first + batch, len(pictures))) for first in range(0, len(pictures), batch)]
    coder = _Coder.of(model, pictures, parts, seed)
    calls, total = 0, len(levels) * len(parts)

    def called(_: int) -> None:
        nonlocal calls
        calls += 1
        if on_call is not None:
            on_call(calls, total)

    bounds: list[Bound] = []
    stages: list[StageNats] = []
    for first, end in parts:
        noise = _noise(model, pictures.read(first, first + 1), range(seed + first, seed + end))
        x0, stage = coder.latents(pictures.read(first, end), noise)
        stages += [] if stage is None else [stage]
        denoise: Denoise = model.denoiser(model.text(list(said[first:end])))
        if on_estimate is not None:
            denoise = _Told(denoise, partial(on_estimate, first))
        form: Decoder = "bytes" if coder.pixels else "density"
        bounds.append(variational_bound(denoise, x0, levels, noise, decoder=form, on_level=called))
    whole = join_bounds(bounds)
    in_pixels = None
    if coder.pixels:
        in_pixels = whole.bits
    elif stages:
        in_pixels = torch.cat([picture_bits(bound, stage) for bound, stage in zip(bounds, stages, strict=True)])
    deviation = None if coder.deviation is None else BYTES * coder.deviation
    return Bits(in_pixels, whole.bits, rate_distortion(whole, pixels=coder.pixels), deviation, coder.pixels)


class _Told:
    """A denoiser whose estimates someone is told of."""

    def __init__(self, inner: Denoise, tell: Callable[[Level, Tensor], None]) -> None:
        self.inner, self.tell = inner, tell

    def __call__(self, x: Tensor, level: Level) -> Denoised:
        seen = self.inner(x, level)
        self.tell(level, seen.x0)
        return seen

    def read(self, raw: Tensor, x: Tensor, level: Level) -> Denoised:
        return self.inner.read(raw, x, level)


def _noise(model: LatentDiffusion, picture: Tensor, seeds: Sequence[int]) -> PictureNoise:
    shape = model.latent_shape(picture.shape[-1], picture.shape[-2])
    return PictureNoise(seeds, shape, model.dtype, model.device)


@dataclass(frozen=True)
class _Coder:
    """The first stage as a code. `pixels`: there is none; `deviation`: of its decoder's Gaussian, in [-1, 1]'s units,
    None where the latents have no density."""

    model: LatentDiffusion
    pixels: bool
    deviation: float | None

    @classmethod
    def of(cls, model: LatentDiffusion, pictures: PictureSet, parts: Sequence[tuple[int, int]], seed: int) -> _Coder:
        """The deviation is that of all pictures, from the very draws that the bound takes."""
        bare = cls(model, isinstance(model.autoencoder, Pixels), None)
        if bare.pixels:
            return bare
        squares, count = 0.0, 0
        for first, end in parts:
            part = pictures.read(first, end)
            posterior = encoded(model, to_signed(part))
            if posterior.certain:
                return bare
            z = bare.draw(posterior, _noise(model, part, range(seed + first, seed + end)))
            squares += best_deviation(bare.rebuilt(z), part) ** 2 * len(part)
            count += len(part)
        return cls(model, False, (squares / count) ** 0.5)

    def latents(self, pictures: Tensor, noise: PictureNoise) -> tuple[Tensor, StageNats | None]:
        """uint8 (B, 3, H, W) -> what diffusion works in, and what the first stage adds to its bound."""
        if self.pixels:
            return to_signed(pictures).to(self.model.device, self.model.dtype), None
        posterior = encoded(self.model, to_signed(pictures))
        if self.deviation is None:
            return posterior.mode(), None
        z = self.draw(posterior, noise)
        return z, stage_nats(posterior, self.rebuilt(z), pictures.to(z.device), self.deviation)

    def draw(self, posterior: Posterior, noise: PictureNoise) -> Tensor:
        return posterior.at(noise().to(posterior.mean.dtype))

    def rebuilt(self, z: Tensor) -> Tensor:
        return decoded(self.model, z, lambda _: REFUSAL)
