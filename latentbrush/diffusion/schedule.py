"""The noise schedule a model was trained with: the table of abar_t = prod (1 - beta)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from latentbrush.diffusion.level import Level
from latentbrush.errors import UserError

__all__ = ["BetaSchedule", "Schedule"]

BetaSchedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
"""'scaled_linear' is linear in sqrt(beta); CompVis' configs call that one "linear", diffusers does not.
'squaredcos_cap_v2' is the cosine schedule (Nichol & Dhariwal 2021, "Improved DDPM", eq. 17)."""


MAX_TIMESTEPS = 100_000
"""A hundred times the usual: what is beyond is a damaged file, and would only fill the memory."""

LEAST = torch.finfo(torch.float32).tiny
"""Of abar: the ratio of noise to picture at any less is infinite in float32."""


@dataclass(frozen=True)
class Schedule:
    """A discrete, variance-preserving schedule (DDPM, section 2). The defaults are Stable Diffusion's.

    `beta_start`, `beta_end`: 0 < beta_start <= beta_end < 1; the cosine schedule does not read them.
    `num_train_timesteps`: T, from 2 to 100,000.
    `rescale_zero_snr`: shift and scale the table so that the last level is pure noise (Lin et al. 2024,
    "Common Diffusion Noise Schedules and Sample Steps are Flawed", Algorithm 1).
    `trained_betas`: all T betas, each in (0, 1]; then the three fields that describe betas are not read.

    Raises `UserError` for values outside these ranges, and for betas so small or large that a level would be
    all picture, or one before the last all noise: only the last abar may be 0.
    """

    beta_schedule: BetaSchedule = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    num_train_timesteps: int = 1000
    rescale_zero_snr: bool = False
    trained_betas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.num_train_timesteps <= MAX_TIMESTEPS:
            raise UserError(f"num_train_timesteps is {self.num_train_timesteps}; choose 2 to {MAX_TIMESTEPS}")
        if self.trained_betas is not None:
            if len(self.trained_betas) != self.num_train_timesteps:
                raise UserError(
                    f"{len(self.trained_betas)} trained_betas for num_train_timesteps "
                    f"{self.num_train_timesteps}; give one beta a time step"
                )
            if not all(0 < beta <= 1 for beta in self.trained_betas):
                raise UserError(
                    f"trained_betas reach from {min(self.trained_betas)} to {max(self.trained_betas)}; "
                    "each must lie in (0, 1]"
                )
            self._check_table()
            return
        if self.beta_schedule not in get_args(BetaSchedule):
            names = ", ".join(get_args(BetaSchedule))
            raise UserError(f"beta_schedule {self.beta_schedule!r} is unknown; choose one of {names}")
        if not self.is_cosine and not 0 < self.beta_start <= self.beta_end < 1:
            raise UserError(
                f"betas from {self.beta_start} to {self.beta_end}; needed is 0 < beta_start <= beta_end < 1"
            )
        self._check_table()

    def _check_table(self) -> None:
        """Samplers divide by alpha and sigma at every level but a last one of pure noise."""
        abar = self._table()
        bad = (abar < LEAST) | (abar >= 1) | abar.isnan()
        bad[-1] &= abar[-1] != 0
        if not bad.any():
            return
        t, betas = int(bad.nonzero()[0]), self._betas()
        raise UserError(
            f"betas from {float(betas.min()):g} to {float(betas.max()):g} make abar {float(abar[t]):g} at t = {t} of "
            f"0 .. {len(abar) - 1}; between 0 and 1 is needed, at the last 0 also: choose "
            f"{'larger' if abar[t] >= 1 else 'smaller'} betas or other num_train_timesteps"
        )

    @property
    def is_cosine(self) -> bool:
        """Are the betas the cosine schedule's, or given by a configuration that names it?"""
        return self.beta_schedule == "squaredcos_cap_v2"

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """abar_t for t = 0 .. T - 1: a (T,) float64 tensor holding float32 values.

        Published weights were trained and are sampled with tables computed in float32; only the same
        rounding gives the same numbers. From here on, everything is computed in float64.
        """
        return self._table()

    def _table(self) -> Tensor:
        betas = self._betas()
        if self.rescale_zero_snr:
            betas = _rescaled_to_zero_snr(betas)
        return torch.cumprod(1.0 - betas, dim=0).double()

    def _betas(self) -> Tensor:
        """(T,) float32."""
        T = self.num_train_timesteps
        if self.trained_betas is not None:
            return torch.tensor(self.trained_betas, dtype=torch.float32)
        if self.is_cosine:
            return torch.tensor(_cosine_betas(T), dtype=torch.float32)
        if self.beta_schedule == "linear":
            return torch.linspace(self.beta_start, self.beta_end, T, dtype=torch.float32)
        return torch.linspace(self.beta_start**0.5, self.beta_end**0.5, T, dtype=torch.float32) ** 2

    def level(
        self, t: Tensor, *, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
    ) -> Level:
        """The training levels of a batch, every sample at its own.

        `t`: (B,) whole numbers in 0 .. T - 1. Returned are alpha and sigma of shape (B, 1, 1, 1) in
        `dtype`, computed in float64 before, and t itself (B,); all on `device` (that of `t` unless said;
        a `t` on the CPU spares a synchronisation).
        Raises `ValueError` for a `t` of another shape, kind or range.
        """
        if t.dim() != 1 or t.is_floating_point():
            raise ValueError(f"t has shape {tuple(t.shape)} and type {t.dtype}; needed is (B,), whole numbers")
        index = t.cpu().long()
        last = self.num_train_timesteps - 1
        if index.numel() and (int(index.min()) < 0 or int(index.max()) > last):
            raise ValueError(f"t from {int(index.min())} to {int(index.max())}; needed is 0 .. {last}")
        device = t.device if device is None else device
        abar = self.alphas_cumprod[index].reshape(-1, 1, 1, 1)
        alpha = abar.sqrt().to(dtype).to(device)
        sigma = (1.0 - abar).sqrt().to(dtype).to(device)
        return Level(alpha, sigma, t.to(device))


def _cosine_betas(count: int) -> list[float]:
    """Improved DDPM, eq. 17, betas cut off at 0.999 so that no step destroys everything."""

    def abar(share: float) -> float:
        return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

    return [min(1 - abar((i + 1) / count) / abar(i / count), 0.999) for i in range(count)]


def _rescaled_to_zero_snr(betas: Tensor) -> Tensor:
    """Lin et al. 2024, Algorithm 1, in the order of its lines, because float32 rounding depends on it."""
    root = torch.cumprod(1.0 - betas, dim=0).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    root = (root - last) * (first / (first - last))  # the last becomes 0, the first stays
    abar = root**2
    alphas = torch.cat([abar[:1], abar[1:] / abar[:-1]])
    return 1 - alphas
