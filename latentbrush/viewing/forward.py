"""The forward process on one picture: what noise does to it, and what the network makes of that (DDPM, eq. 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentbrush.data.pixels import to_image
from latentbrush.devices import HALVES, in_float32
from latentbrush.diffusion import Denoiser, PictureNoise
from latentbrush.errors import NotFiniteError, UserError
from latentbrush.latents import decoded, encoded
from latentbrush.model import LatentDiffusion
from latentbrush.starts import to_pixels
from latentbrush.viewing.sheet import labelled_sheet
from latentbrush.viewing.trajectory import evenly

__all__ = ["MAX_LEVELS", "ForwardProcess", "NoisedLevel", "forward_process", "forward_sheet"]

MAX_LEVELS = 16
"""So many columns can be told apart on a screen."""
NOISE_RANGE = 2.5
"""Noise beyond so many standard deviations is shown as that."""


@dataclass(frozen=True)
class NoisedLevel:
    """One level of the forward process, z = alpha * z0 + sigma * noise, all latents (1, c, h, w).

    `noise` and `z0`: the network's estimates. Errors are root mean squares over all numbers of the latents,
    against the true ones; latents and noise both have a standard deviation of about 1. `loss`: the mean
    squared error of the network's own output, which training minimises.
    """

    t: int
    alpha: float
    sigma: float
    z: Tensor
    noise: Tensor
    z0: Tensor
    noise_error: float
    z0_error: float
    loss: float


@dataclass(frozen=True)
class ForwardProcess:
    """A picture's latents `z0` (1, c, h, w), the one `noise` put on them, and the levels, clearest first."""

    z0: Tensor
    noise: Tensor
    levels: tuple[NoisedLevel, ...]


@torch.inference_mode()
def forward_process(
    model: LatentDiffusion,
    image: Image.Image,
    *,
    prompt: str = "",
    label: int | None = None,
    seed: int = 0,
    levels: int = 8,
) -> ForwardProcess:
    """Noise an RGB picture, whose sides f divides, to `levels` times evenly spread over the schedule.

    The network is asked at each under `prompt` or `label`, without guidance. The same noise, that of `seed`, is put on
    at all levels. What is not finite in half precision is asked for once more in float32. UserError for fewer
    than 2 levels, more than `MAX_LEVELS` or more than the schedule has, for a model that says nothing of the
    picture at its last level, and for what is not finite then, either.
    """
    T = model.schedule.num_train_timesteps
    most = min(MAX_LEVELS, T)
    if not 2 <= levels <= most:
        raise UserError(f"{levels} levels are asked for; choose 2 to {most}")
    shape, said = model.latent_shape(*image.size), model.said(prompt, label)
    _refuse_silence(model)
    z0, times = encoded(model, to_pixels(image)[None]).mode(), evenly(T, levels)
    noise = PictureNoise([seed], shape, model.dtype, model.device)()
    process = _process(model, z0, noise, said, times)
    if model.dtype in HALVES and not _finite(process):
        with in_float32(model.text, model.unet):
            process = _process(model, z0, noise, said, times)
    if not _finite(process):
        raise NotFiniteError("what the model says of the picture is not finite; its weights are damaged: get them anew")
    return process


def _refuse_silence(model: LatentDiffusion) -> None:
    """UserError where x0 does not follow from what the network says of the last level, which is always shown."""
    last = model.schedule.num_train_timesteps - 1
    slope, _ = Denoiser(lambda x, _: x, model.prediction).slopes(model.schedule.level(torch.tensor([last])))
    if math.isinf(float(slope)):
        raise UserError(
            f"the model predicts {model.prediction}, which says nothing of the picture at t = {last}, where its "
            "schedule is pure noise (zero SNR); choose a model with v_prediction, or without rescale_betas_zero_snr"
        )


def _process(
    model: LatentDiffusion, z0: Tensor, noise: Tensor, said: str | int | None, times: Sequence[int]
) -> ForwardProcess:
    """All computed in the model's type as it is now."""
    z0, noise = z0.to(model.dtype), noise.to(model.dtype)
    denoiser = model.denoiser(model.text([said]))
    shown = []
    for t in times:
        level = model.schedule.level(torch.tensor([t]), device=model.device, dtype=model.dtype)
        z = level.mix(z0, noise)
        seen = denoiser(z, level)
        shown.append(
            NoisedLevel(
                t=t,
                alpha=float(level.alpha),
                sigma=float(level.sigma),
                z=z,
                noise=seen.eps,
                z0=seen.x0,
                noise_error=_mean_square(seen.eps - noise) ** 0.5,
                z0_error=_mean_square(seen.x0 - z0) ** 0.5,
                loss=_mean_square(seen.raw - denoiser.target(z0, noise, level)),
            )
        )
    return ForwardProcess(z0, noise, tuple(shown))


def _finite(process: ForwardProcess) -> bool:
    figures = [number for level in process.levels for number in (level.noise_error, level.z0_error, level.loss)]
    return bool(np.isfinite(figures).all())


def _mean_square(difference: Tensor) -> float:
    return float(difference.float().square().mean())


@torch.inference_mode()
def forward_sheet(model: LatentDiffusion, process: ForwardProcess, channel: int = 0) -> Image.Image:
    """A column a level; rows: the noised latents decoded, one channel of the true noise and of what the network
    takes for noise (red above 0, blue below), and the picture it sees, decoded.

    UserError for a picture that is not finite in float32 either.
    """

    def shown(latents: Tensor, t: int) -> Image.Image:
        refusal = f"the picture at t = {t} is not finite; choose another number of levels"
        return to_image(decoded(model, latents, lambda _: refusal)[0])

    levels = process.levels
    rows = {
        "noised\nlatents": [shown(level.z, level.t) for level in levels],
        "true noise,\none channel": [signed_map(process.noise[0, channel])] * len(levels),
        "predicted\nnoise": [signed_map(level.noise[0, channel]) for level in levels],
        "estimate\nof x0": [shown(level.z0, level.t) for level in levels],
    }
    return labelled_sheet([f"t = {level.t}" for level in levels], rows)


def signed_map(values: Tensor) -> Image.Image:
    """(h, w) -> an RGB picture: 0 is white, the range's upper end red, its lower end blue."""
    share = (values.float().cpu().numpy() / NOISE_RANGE).clip(-1, 1)[..., None]
    red, blue = np.array([178, 24, 43]), np.array([33, 102, 172])
    colours = 255 + np.abs(share) * (np.where(share > 0, red, blue) - 255)
    return Image.fromarray(colours.round().astype(np.uint8))
