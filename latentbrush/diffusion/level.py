"""Noise levels, the steps between them, and the plan that a schedule makes of them.

A noisy picture is x = alpha * x0 + sigma * eps with eps ~ N(0, I). Variance preserving
(alpha^2 + sigma^2 = 1), variance exploding (alpha = 1), zero terminal SNR (alpha = 0) and rectified flow
(alpha = 1 - sigma) are paths through this one plane, so whatever takes a `Level` serves all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

__all__ = ["Level", "Plan", "Scalar", "Step", "with_level_after"]

Scalar = float | Tensor
"""A float64 Python float in sampling, where a batch shares its level; in training a (B, 1, 1, 1) tensor."""


@dataclass(frozen=True)
class Level:
    """A point of the plane x = alpha * x0 + sigma * eps.

    `alpha`, `sigma`: not negative, not both zero. Python floats keep a float32 tensor float32 when they
    multiply it, and are themselves float64.
    `t`: what the network is told; None for a finished level, which no network reads. It is carried because
    it is no function of (alpha, sigma): published schedulers pass fractional and whole t for one ratio.
    In training a (B,) tensor.
    """

    alpha: Scalar
    sigma: Scalar
    t: Scalar | None = None

    @property
    def norm(self) -> Scalar:
        """sqrt(alpha^2 + sigma^2): the standard deviation of x where x0 has unit variance."""
        norm: Scalar = (self.alpha * self.alpha + self.sigma * self.sigma) ** 0.5
        return norm

    def floats(self) -> tuple[float, float]:
        """(alpha, sigma) of a level in sampling, where both are numbers."""
        return float(self.alpha), float(self.sigma)

    def log_ratio(self) -> float:
        """lambda = log(alpha / sigma) of a level in sampling: half the log of its signal-to-noise ratio.

        Minus infinity at alpha = 0, infinity at sigma = 0.
        """
        alpha, sigma = self.floats()
        if sigma == 0:
            return math.inf
        return math.log(alpha / sigma) if alpha > 0 else -math.inf

    def mix(self, x0: Tensor, eps: Tensor) -> Tensor:
        """The noisy x of this level (DDPM, eq. 4, in the plane). All (B, c, h, w)."""
        return self.alpha * x0 + self.sigma * eps


@dataclass(frozen=True, init=False)
class Step:
    """From the level `now` to `next`; x lies, and the network is asked, at `at` (`now` unless said).

    `next` is explicit because it is not always the next level at which the network is asked: DDIM with
    trailing or linspace spacing steps by T // N, wherever its next time step may be. Where `at` is not
    `now`, the step starts anew from an earlier x, with one more evaluation (PNDM, DPM-Solver++ singlestep).
    `mid`: a further level that samplers with two to a step go through; None where they take a plain step.
    """

    now: Level
    next: Level
    at: Level
    mid: Level | None

    def __init__(self, now: Level, next: Level, at: Level | None = None, mid: Level | None = None) -> None:
        object.__setattr__(self, "now", now)
        object.__setattr__(self, "next", next)
        object.__setattr__(self, "at", now if at is None else at)
        object.__setattr__(self, "mid", mid)


@dataclass(frozen=True)
class Plan:
    """All that a sampler needs for one picture, decided on the full schedule.

    `steps`: the last one's `next` is finished (t None). None where the strength is so low that no step is
    left: then the guide is the picture.
    `start_scale`: without a guide, unit Gaussian noise times this is the x that the first step reads.
    `options`: keywords of the sampler, such as `eta` or `euler_last`.
    `calls_per_step`: how often a step with a `mid` asks the network; all others ask once.
    """

    steps: tuple[Step, ...]
    start_scale: float
    options: Mapping[str, Any] = field(default_factory=dict)
    calls_per_step: int = 1

    @property
    def calls(self) -> int:
        """How often the network is asked for a picture."""
        return sum(1 if step.mid is None else self.calls_per_step for step in self.steps)

    def start(self, noise: Tensor, guide: Tensor | None = None) -> Tensor:
        """The x that the first step reads, from unit noise and, if there is one, a clean guide; all (B, c, h, w).

        The guide is noised to the first level (SDEdit, Meng et al. 2022, Algorithm 1).
        """
        if guide is None:
            return noise * self.start_scale
        return self.steps[0].now.mix(guide, noise)


def with_level_after(steps: Sequence[Step]) -> Iterator[tuple[Step, Level]]:
    """Each step, and the level at which x is read after it: the next step's `at`, at the end `next`."""
    for i, step in enumerate(steps):
        yield step, steps[i + 1].at if i + 1 < len(steps) else step.next
