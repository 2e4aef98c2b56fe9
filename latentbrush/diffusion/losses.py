"""The training objective of a diffusion model, per sample."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from latentbrush.diffusion.denoiser import Denoiser
from latentbrush.diffusion.level import Level
from latentbrush.errors import UserError

__all__ = ["Weighting", "diffusion_loss", "loss_weight", "shifted_timesteps"]

Weighting = Literal["uniform", "min_snr"]


def diffusion_loss(
    denoiser: Denoiser,
    x0: Tensor,
    eps: Tensor,
    level: Level,
    *,
    weighting: Weighting = "uniform",
    gamma: float = 5.0,
    floor: float = 0.0,
) -> Tensor:
    """Weighted squared error of the network's output at x = alpha x0 + sigma eps (DDPM, eq. 14).

    `x0`, `eps`: (B, c, h, w), clean latents and unit noise; `level`: a level for each sample, as
    `Schedule.level` returns it. Returns (B,): the mean over c, h, w of each sample, times its weight
    (`loss_weight`), in the type of x0 though the network may compute in less. The trainer reduces it.
    """
    raw = denoiser.raw(level.mix(x0, eps), level)
    target = denoiser.target(x0, eps, level)
    error = (raw.to(target.dtype) - target).square().flatten(1).mean(1)
    if weighting == "uniform":
        return error
    return error * loss_weight(denoiser, level, weighting, gamma=gamma, floor=floor).to(error.dtype)


def loss_weight(
    denoiser: Denoiser, level: Level, weighting: Weighting, *, gamma: float = 5.0, floor: float = 0.0
) -> Tensor:
    """The weight of each sample's raw squared error, (B,).

    'uniform': 1. 'min_snr' (Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting", section
    3.4): min(snr, gamma) on the error in x0, snr = (alpha / sigma)^2, which on the raw output's error is
    min(snr, gamma) / snr for epsilon, / (snr + 1) for v_prediction and / 1 for sample.
    `gamma`: positive. `floor`: the least weight, not negative; for v the weight is zero at zero SNR,
    where a network must learn the most if sampling is to start there.
    Raises `UserError` for an unknown weighting or values outside these ranges.
    """
    if weighting not in get_args(Weighting):
        raise UserError(f"weighting {weighting!r} is unknown; choose one of {', '.join(get_args(Weighting))}")
    if not gamma > 0 or not floor >= 0:
        raise UserError(f"gamma {gamma} and floor {floor}; gamma must be above 0, floor at least 0")
    alpha = torch.as_tensor(level.alpha).flatten()
    if weighting == "uniform":
        return torch.ones_like(alpha)
    # min(snr, gamma) (dx0/draw)^2 = min((deps/draw)^2, gamma (dx0/draw)^2): no 0 * inf at alpha = 0.
    slope_x0, slope_eps = (torch.as_tensor(s).to(alpha).flatten() for s in denoiser.slopes(level))
    return torch.minimum(slope_eps.square(), gamma * slope_x0.square()).expand_as(alpha).clamp(min=floor)


def shifted_timesteps(uniform: Tensor, timesteps: int, shift: float = 1.0) -> Tensor:
    """The timesteps, (B,) int64 in 0..timesteps - 1, that training takes for `uniform`, (B,) draws in [0, 1).

    `shift` s maps u to s u / (1 + (s - 1) u) (Esser et al. 2024, "Scaling Rectified Flow Transformers",
    section 5.3.2): 1 is uniform; above 1 more of a batch is noisy, where the text decides what is painted.
    Raises `UserError` unless shift is above 0.
    """
    if not shift > 0:
        raise UserError(f"timestep shift {shift}; it must be above 0, and 1 is uniform")
    return (shift * uniform / (1.0 + (shift - 1.0) * uniform) * timesteps).long().clamp(max=timesteps - 1)
