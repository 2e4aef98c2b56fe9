"""Bits per dimension of pictures, and what each of them buys: rate against distortion (Ho et al. 2020, figure 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentbrush.diffusion import Bound
from latentbrush.diffusion.bound import discretised_log_likelihood
from latentbrush.errors import UserError
from latentbrush.nn import Posterior

__all__ = [
    "RateDistortion",
    "StageNats",
    "best_deviation",
    "join_bounds",
    "picture_bits",
    "rate_distortion",
    "stage_nats",
]

SIGNED_TO_BYTES = 127.5


@dataclass(frozen=True)
class RateDistortion:
    """Of the mean picture, after each level's x was sent, noisiest first; all (S,), float64.

    `times`: t of the levels; `rate`: bits per dimension sent until then, rising; `distortion`: the root of the mean
    squared error of the x0 estimated from it, in 1/255 where x0 is pictures in [-1, 1], else in the latents' units.
    """

    times: Tensor
    rate: Tensor
    distortion: Tensor

    def to_json(self) -> dict[str, list[float]]:
        return {"t": self.times.tolist(), "rate": self.rate.tolist(), "distortion": self.distortion.tolist()}


def rate_distortion(bound: Bound, *, pixels: bool = True) -> RateDistortion:
    """The way from noise to picture as a progressive code (Ho et al. 2020, section 4.3, figure 5).

    Whoever has received the prior's term and the KLs down to a level knows its x, and shows the estimate. `pixels`:
    whether x0 was pictures in [-1, 1].
    """
    sent = torch.cat([bound.prior[:, None], bound.steps], 1).cumsum(1)
    return RateDistortion(
        times=torch.tensor([float(level.t or 0.0) for level in bound.levels], dtype=torch.float64),
        rate=sent.mean(0) / (bound.dimensions * math.log(2)),
        distortion=bound.errors.mean(0).sqrt() * (SIGNED_TO_BYTES if pixels else 1.0),
    )


def join_bounds(bounds: Sequence[Bound]) -> Bound:
    """Batches of pictures as one. UserError for none; ValueError for bounds of unlike levels or pictures' sizes."""
    if not bounds:
        raise UserError("there is no picture to bound; give at least 1")
    first = bounds[0]
    for other in bounds[1:]:
        if other.levels != first.levels or other.dimensions != first.dimensions:
            raise ValueError("bounds of unlike levels or sizes cannot be one")
    prior, steps, decoder, errors = (
        torch.cat([getattr(bound, name) for bound in bounds]) for name in ("prior", "steps", "decoder", "errors")
    )
    return Bound(prior, steps, decoder, errors, first.levels, first.dimensions)


@dataclass(frozen=True)
class StageNats:
    """What a first stage adds to the bound of its latents, in nats, (B,) each, float64.

    `rebuilt`: -log p(x | z); `entropy`: of q(z | x), which is taken off. `dimensions`: of a picture.
    """

    rebuilt: Tensor
    entropy: Tensor
    dimensions: int

    def to_json(self) -> dict[str, Any]:
        scale = self.dimensions * math.log(2)
        return {
            "reconstruction_bits": float(self.rebuilt.mean()) / scale,
            "posterior_entropy_bits": float(self.entropy.mean()) / scale,
        }


def stage_nats(posterior: Posterior, rebuilt: Tensor, pictures: Tensor, deviation: float) -> StageNats:
    """Of pictures (B, 3, H, W) uint8, their posterior, and what a draw of it was decoded to, (B, 3, H, W) in [-1, 1].

    p(x | z) is the discretised Gaussian about `rebuilt` with one `deviation`, in [-1, 1]'s units: first stages say
    none, and `best_deviation` is the one that makes the bound least (Rybkin et al. 2021). UserError for a first stage
    that leaves nothing to chance (VQ, tiny): its latents have no density, so that there is no bound in pixels.
    """
    if posterior.certain:
        raise UserError(
            "this first stage has no posterior, so that its latents bound no pixels; read the bits of the latents"
        )
    if not 0 < deviation < math.inf:
        raise UserError(f"a decoder's deviation of {deviation}; choose one above 0, such as best_deviation's")
    if pictures.dtype != torch.uint8 or pictures.shape != rebuilt.shape:
        raise ValueError(f"pictures {tuple(pictures.shape)} {pictures.dtype} and rebuilt {tuple(rebuilt.shape)}")
    log_variance = torch.tensor(2 * math.log(deviation), dtype=torch.float64)
    likelihood = discretised_log_likelihood(_signed(pictures, rebuilt), rebuilt.double(), log_variance)
    entropy = 0.5 * (posterior.logvar.double() + 1 + math.log(2 * math.pi))
    return StageNats(-likelihood.flatten(1).sum(1), entropy.flatten(1).sum(1), pictures[0].numel())


def best_deviation(rebuilt: Tensor, pictures: Tensor) -> float:
    """The root of the mean squared error of `rebuilt`, (B, 3, H, W) in [-1, 1], to pictures uint8: for a continuous
    Gaussian the likeliest. At least a quarter of a byte, below which bins hold all anyhow."""
    error = (_signed(pictures, rebuilt) - rebuilt.double()).square().mean().sqrt()
    return max(float(error), 0.25 / SIGNED_TO_BYTES)


def _signed(pictures: Tensor, beside: Tensor) -> Tensor:
    """uint8 -> float64 in [-1, 1], on the device of `beside`."""
    return pictures.to(beside.device).double() / SIGNED_TO_BYTES - 1


def picture_bits(latents: Bound, stage: StageNats) -> Tensor:
    """(B,) bits per dimension of the pictures, at most, by a bound of their latents' density and their first stage.

    -log p(x) <= E[-log p(x | z) + log q(z | x) - log p(z)] over draws z of q, those that `latents` was taken of: the
    first two are `stage`'s (LSGM, Vahdat et al. 2021, equation 3). In bits of the pictures' dimensions, not the
    latents'.
    """
    if len(latents.prior) != len(stage.rebuilt):
        raise ValueError(f"{len(latents.prior)} latents and {len(stage.rebuilt)} pictures differ in number")
    return (stage.rebuilt - stage.entropy + latents.total) / (stage.dimensions * math.log(2))
