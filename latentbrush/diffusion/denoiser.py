"""One contract for every kind of prediction: a `Denoiser` turns network outputs into x0 and eps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor

from latentbrush.diffusion.level import Level, Scalar
from latentbrush.errors import UserError

__all__ = ["Denoise", "Denoised", "Denoiser", "Limits", "Predict", "Prediction", "Threshold"]

Prediction = Literal["epsilon", "v_prediction", "sample"]
"""What the network's output means; the names are those of diffusers' configuration files."""

Predict = Callable[[Tensor, Level], Tensor]
"""(x scaled to unit variance (B, c, h, w), level) -> raw output (B, c, h, w); conditioned and guided."""


@dataclass(frozen=True)
class Denoised:
    """What the network says of a noisy x. All tensors (B, c, h, w).

    `x0`: the estimate of the clean picture (clipped, where the denoiser clips); `eps`: of its noise;
    `raw`: the network's own output; `log_var`: what some networks say beside it of a step's log variance, in about
    [-1, 1] between its least and its greatest; `unclipped`: what x0 was, where the denoiser clips.
    """

    x0: Tensor
    eps: Tensor
    raw: Tensor
    log_var: Tensor | None = None
    unclipped: Tensor | None = None


class Denoise(Protocol):
    """What samplers call: a `Denoiser`, or a wrapper around one."""

    def __call__(self, x: Tensor, level: Level) -> Denoised: ...

    def read(self, raw: Tensor, x: Tensor, level: Level) -> Denoised: ...


@dataclass(frozen=True)
class Threshold:
    """Dynamic thresholding of x0 (Saharia et al. 2022, "Imagen", section 2.3): for pictures, not for latents.

    Of each picture's absolute values the `ratio`-quantile, but at least 1 and at most `largest`, is where x0 is cut
    off, and then becomes 1. `ratio` in [0, 1], `largest` at least 1; `UserError` otherwise.
    """

    ratio: float = 0.995
    largest: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1 or not 1 <= self.largest < math.inf:
            raise UserError(
                f"dynamic thresholding at the quantile {self.ratio} up to {self.largest}; "
                "choose a quantile from 0 to 1, and at least 1"
            )

    def __call__(self, x0: Tensor) -> Tensor:
        """x0 (B, c, h, w) within [-1, 1]."""
        values = x0.flatten(1).abs()
        wide = values if values.dtype == torch.float64 else values.float()  # quantiles of halves there are none
        most = torch.quantile(wide, self.ratio, dim=1).clamp(1.0, self.largest).to(x0.dtype).reshape(-1, 1, 1, 1)
        return x0.clamp(-most, most) / most


class Limits(NamedTuple):
    """What is done to x0 at every call: `threshold`, or else `clip`, how far from 0 it may be; None for neither."""

    threshold: Threshold | None = None
    clip: float | None = None


@dataclass(frozen=True)
class Denoiser:
    """A network with its prediction type. Loss and samplers both go through here, and nothing else knows it.

    With a' = alpha / r, s' = sigma / r, r = sqrt(alpha^2 + sigma^2), the meaning of a raw output is
    eps; x0; or v = a' eps - s' x0 (Salimans & Ho 2022, "Progressive Distillation", section 4 and appendix D).
    `clip`: x0 is clamped to [-clip, clip], eps is left as it is; positive, None for latents. `threshold`: instead.
    An output of twice x's channels is read as the prediction and, in its second half, `Denoised.log_var`.
    """

    predict: Predict
    prediction: Prediction = "epsilon"
    clip: float | None = None
    threshold: Threshold | None = None

    def __post_init__(self) -> None:
        if self.prediction not in get_args(Prediction):
            names = ", ".join(get_args(Prediction))
            raise UserError(f"prediction {self.prediction!r} is unknown; choose one of {names}")
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise UserError(f"clip is {self.clip}; needed is a positive number, or None for no clipping")

    def __call__(self, x: Tensor, level: Level) -> Denoised:
        """Ask the network once about x (B, c, h, w) at `level`, whose t must not be None."""
        return self.read(self.raw(x, level), x, level)

    def raw(self, x: Tensor, level: Level) -> Tensor:
        """The network's output for x, which it sees scaled to unit variance."""
        return self.predict(x / level.norm, level)

    def read(self, raw: Tensor, x: Tensor, level: Level) -> Denoised:
        """What an output `raw` for x at `level` means.

        x0 and eps come each from its own formula, for one computed from the other loses all digits where
        alpha or sigma is small. Raises `UserError` where the output does not determine them: eps says
        nothing of x0 at alpha = 0, x0 nothing of eps at sigma = 0.
        """
        a, s = level.alpha, level.sigma
        raw, log_var = raw.chunk(2, dim=1) if raw.shape[1] == 2 * x.shape[1] else (raw, None)
        if self.prediction == "epsilon":
            _refuse_zero(a, "an epsilon prediction says nothing of x0 at alpha = 0; choose another sampler or spacing")
            x0, eps = (x - s * raw) / a, raw
        elif self.prediction == "sample":
            _refuse_zero(s, "a sample prediction says nothing of eps at sigma = 0; start at a noisier level")
            x0, eps = raw, (x - a * raw) / s
        else:
            r = level.norm
            unit = x / r
            x0 = (a / r) * unit - (s / r) * raw
            eps = (s / r) * unit + (a / r) * raw
        clipped = None
        if self.threshold is not None:
            clipped = self.threshold(x0)
        elif self.clip is not None:
            clipped = x0.clamp(-self.clip, self.clip)
        if clipped is None:
            return Denoised(x0=x0, eps=eps, raw=raw, log_var=log_var)
        return Denoised(x0=clipped, eps=eps, raw=raw, log_var=log_var, unclipped=x0)

    def target(self, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
        """What the network should say of x = alpha x0 + sigma eps. All (B, c, h, w)."""
        if self.prediction == "epsilon":
            return eps
        if self.prediction == "sample":
            return x0
        return (level.alpha / level.norm) * eps - (level.sigma / level.norm) * x0

    def slopes(self, level: Level) -> tuple[Scalar, Scalar]:
        """|d x0 / d raw| and |d eps / d raw|: how far x0 and eps miss where raw misses by one.

        Their ratio is sigma / alpha whatever the prediction; weights of a loss are made of them. For tensor
        levels the first is infinite at alpha = 0 (epsilon), the second at sigma = 0 (sample).
        """
        if self.prediction == "epsilon":
            return level.sigma / level.alpha, 1.0
        if self.prediction == "sample":
            return 1.0, level.alpha / level.sigma
        return level.sigma / level.norm, level.alpha / level.norm


def _refuse_zero(value: Scalar, message: str) -> None:
    if bool((value == 0).any()) if isinstance(value, Tensor) else value == 0:
        raise UserError(message)
