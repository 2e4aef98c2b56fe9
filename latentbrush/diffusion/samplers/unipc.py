"""UniPC (Zhao et al. 2023): a predictor of any order, and a corrector that mends it with no further call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch import Tensor

from latentbrush.diffusion.denoiser import Denoise
from latentbrush.diffusion.level import Step, with_level_after
from latentbrush.diffusion.samplers.contract import Noise, OnStep, approach, keep, order_of

__all__ = ["UniPCVariant", "unipc"]

UniPCVariant = Literal["bh1", "bh2"]
"""B(h) of a step h in lambda: h, or e^h - 1 (section 4.1); it matters where one difference alone is weighed."""


def unipc(
    denoise: Denoise,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    on_step: OnStep = keep,
    *,
    order: int = 2,
    variant: UniPCVariant = "bh2",
    lower_order_final: bool = True,
) -> Tensor:
    """UniPC in x0 (Zhao et al. 2023, "UniPC", Algorithms 1 and 2, data prediction of appendix A), deterministic.

    Each estimate first corrects the step that led to it, then predicts the next; what `on_step` changes is
    therefore seen by the network only. `order`: 1 to 3 of the predictor, one more with the corrector;
    `lower_order_final`: never higher than steps are left. A step to sigma = 0 is of first order.
    Returns the finished x (B, c, h, w).
    """
    past: list[tuple[float, Tensor]] = []  # (lambda, x0), the last first
    before: tuple[Tensor, Step, int] | None = None
    for i, (step, level) in enumerate(with_level_after(steps)):
        seen = denoise(x, step.at)
        now = step.now.log_ratio()
        if before is not None:
            start, led_here, used = before
            x = _update(start, led_here, [*past[:used], (now, seen.x0)], variant)
        past = [(now, seen.x0), *past][:order]
        last = step.next.log_ratio() in (math.inf, now)
        most = order_of(i, len(steps), order, euler_last=last, lower_order_final=lower_order_final)
        before = x, step, min(1 if last else most, len(past))
        x = on_step(_update(x, step, past[: before[2]], variant), level, seen)
    return x


def _update(x: Tensor, step: Step, known: Sequence[tuple[float, Tensor]], variant: UniPCVariant) -> Tensor:
    """x at the step's end from the estimates `known`, that at its start first (eq. 3 and 9).

    Moments of the exponential integral are matched at the places r of the others, in units of the step.
    """
    x_next = approach(x, known[0][1], step.now, step.next)
    if len(known) == 1:
        return x_next
    start, m = known[0]
    h = step.next.log_ratio() - start
    places = np.array([(at - start) / h for at, _ in known[1:]])
    if len(places) == 1:
        weights = np.array([0.5 * (math.expm1(-h) if variant == "bh2" else -h)])
    else:
        weights = np.linalg.solve(np.vander(places, increasing=True).T, _moments(-h, len(places)))
    alpha, _ = step.next.floats()
    for weight, place, (_, other) in zip(weights.tolist(), places.tolist(), known[1:], strict=True):
        x_next = x_next - (alpha * weight / place) * (other - m)
    return x_next


def _moments(z: float, count: int) -> np.ndarray:
    """n! phi_(n + 1)(z) z for n = 1 .. count (eq. 7), phi_1(z) = (e^z - 1) / z."""
    result, phi = [], math.expm1(z) / z
    for n in range(1, count + 1):
        phi = (phi - 1.0 / math.factorial(n)) / z
        result.append(math.factorial(n) * phi * z)
    return np.array(result)
