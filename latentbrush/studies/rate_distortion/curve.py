"""The rate and distortion of a model: diffusion level by level, and its first stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latentbrush.data.pixels import to_bytes, to_signed
from latentbrush.diffusion import Level, PictureNoise, bound_levels
from latentbrush.latents import decoded, encoded
from latentbrush.model import LatentDiffusion
from latentbrush.nn import Pixels, VQAutoencoder
from latentbrush.studies.first_stage import HeldPictures
from latentbrush.studies.likelihood import REFUSAL, measure_bits
from latentbrush.studies.rate_distortion.seen import Judge
from latentbrush.studies.study import Figures

__all__ = ["SHOWN", "diffusion_curve", "levels_shown", "stage_point"]

SHOWN = 12
BATCH = 64


def levels_shown(levels: Sequence[Level], count: int = SHOWN) -> list[int]:
    """Places of about `count` levels, both ends among them, evenly spaced in the angle whose tangent is sigma / alpha:
    from all noise to all signal every part of the way is seen, whatever the schedule. All of no more than `count`."""
    if len(levels) <= count:
        return list(range(len(levels)))
    angles = torch.tensor([math.atan2(*reversed(level.floats())) for level in levels], dtype=torch.float64)
    wanted = torch.linspace(float(angles[0]), float(angles[-1]), count, dtype=torch.float64)
    return sorted(set((angles[None] - wanted[:, None]).abs().argmin(1).tolist()))


def diffusion_curve(
    model: LatentDiffusion, judge: Judge, said: Sequence[str | None], *, steps: int, seed: int
) -> dict[str, Any]:
    """Bits per dimension of the pictures, and what the decoded estimates of x0 are worth at some levels.

    The latents as a progressive code (Ho et al. 2020, section 4.3): whoever has received them down to a level decodes
    the estimate. `rates` and `t` of all levels; `total`: of the latents, which is a density's unless they are pixels.
    """
    levels = bound_levels(model.schedule, steps)
    places = {levels[i]: i for i in levels_shown(levels)}

    def shown(first: int, level: Level, x0: Tensor) -> None:
        if level in places:
            judge.add(f"level {places[level]}", first, to_bytes(decoded(model, x0, lambda _: REFUSAL)).cpu())

    pictures = HeldPictures("pictures", judge.originals)
    bits = measure_bits(model, pictures, said, steps=steps, seed=seed, batch=BATCH, on_estimate=shown)
    share = math.prod(model.latent_shape(*reversed(judge.originals.shape[-2:]))) / judge.originals[0].numel()
    rates = (bits.curve.rate * share).tolist()
    return {
        "t": bits.curve.times.tolist(),
        "rates": rates,
        "total": float(bits.latents.mean()) * share,
        "picture_bits": None if bits.pixels is None else float(bits.pixels.mean()),
        "levels": [
            {"t": bits.curve.times[i].item(), "rate": rates[i], **judge.seen(f"level {i}").to_json()}
            for i in sorted(places.values())
        ],
    }


@torch.inference_mode()
def stage_point(model: LatentDiffusion, judge: Judge, *, seed: int) -> Figures:
    """What the first stage alone keeps, of the draws that `diffusion_curve` has with the same seed.

    `kind`: kl, vq, certain (no posterior, and none to count bits by) or none (pixels). `standard`: bits per dimension
    of the pictures, by a prior that knows nothing: KL of q(z | x) and N(0, I), or log2(codes) a cell. `entropy`: of
    q(z | x), what a code that draws z by other bits gets back (Hinton and van Camp 1993); None without posterior.
    """
    stage = model.autoencoder
    if isinstance(stage, Pixels):
        return {"kind": "none"}
    kl, entropy, count, certain = 0.0, 0.0, len(judge.originals), False
    for first in range(0, count, BATCH):
        part = judge.originals[first : first + BATCH]
        posterior = encoded(model, to_signed(part))
        shape = model.latent_shape(part.shape[-1], part.shape[-2])
        noise = PictureNoise(range(seed + first, seed + first + len(part)), shape, model.dtype, model.device)
        certain = posterior.certain
        z = posterior.mode() if certain else posterior.at(noise().to(posterior.mean.dtype))
        judge.add("first stage", first, to_bytes(decoded(model, z, lambda _: REFUSAL)).cpu())
        if not certain:
            kl += float(posterior.kl().double().sum())
            entropy += float((0.5 * (posterior.logvar.double() + 1 + math.log(2 * math.pi))).sum())
    scale = judge.originals.numel() * math.log(2)
    found: dict[str, Any] = {"kind": "certain" if certain else "kl", "standard": None, "entropy": None}
    if isinstance(stage, VQAutoencoder):
        cells = count * math.prod(shape[1:])
        found |= {"kind": "vq", "standard": math.log2(stage.config.codebook_size) * cells / judge.originals.numel()}
    elif not certain:
        found |= {"standard": kl / scale, "entropy": entropy / scale}
    return {**found, **judge.seen("first stage").to_json()}
