"""Multistep samplers in eps: each step takes the noise along a polynomial through the last estimates.

LMS and DEIS differ in the variable of the polynomial, PLMS combines raw outputs at equal steps of time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from latentbrush.diffusion.denoiser import Denoise
from latentbrush.diffusion.level import Step, with_level_after
from latentbrush.diffusion.samplers.contract import Noise, OnStep, keep, order_of

__all__ = ["deis", "lms", "plms", "pndm"]


def lms(
    denoise: Denoise,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    on_step: OnStep = keep,
    *,
    order: int = 4,
) -> Tensor:
    """The linear multistep method of Adams and Bashforth in x / alpha over sigma / alpha, with unequal steps
    (k-diffusion's sampler of this name), deterministic. No alpha may be 0. Returns the finished x (B, c, h, w).
    """
    return _adams(denoise, x, steps, on_step, _itself, np.ones_like, [order] * len(steps))


def deis(
    denoise: Denoise,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    on_step: OnStep = keep,
    *,
    order: int = 2,
    lower_order_final: bool = False,
) -> Tensor:
    """DEIS (Zhang & Chen 2023, "Fast Sampling of Diffusion Models with Exponential Integrator", eq. 15 and 17), tAB
    in log(rho), rho = sigma / alpha: `lms` with a polynomial in log(rho). No sigma and no alpha may be 0.

    `lower_order_final`: no step is of a higher order than steps are left. Returns the finished x (B, c, h, w).
    """
    orders = [
        order_of(i, len(steps), order, euler_last=False, lower_order_final=lower_order_final) for i in range(len(steps))
    ]
    return _adams(denoise, x, steps, on_step, np.log, np.exp, orders)


Function = Callable[[np.ndarray], np.ndarray]


def _itself(rho: np.ndarray) -> np.ndarray:
    return rho


def _adams(
    denoise: Denoise,
    x: Tensor,
    steps: Sequence[Step],
    on_step: OnStep,
    variable: Function,
    rate: Function,
    orders: Sequence[int],
) -> Tensor:
    """Polynomials in `variable` of rho = sigma / alpha; `rate` is rho's derivative by it, where it has a value."""
    past: list[tuple[float, Tensor]] = []  # (rho, slope), the last first
    for (step, level), order in zip(with_level_after(steps), orders, strict=True):
        (alpha, sigma), (alpha_next, sigma_next) = step.now.floats(), step.next.floats()
        seen = denoise(x, step.at)
        slope = (x - alpha * seen.x0) / sigma  # eps, but of a clipped x0
        past = [(sigma / alpha, slope), *past][: max(orders)]
        used = past[:order]
        places = variable(np.array([*(rho for rho, _ in used), sigma_next / alpha_next]))
        shares = _integrals(places[:-1], places[0], places[-1], rate)
        x = x / alpha
        for share, (_, slope) in zip(shares, used, strict=True):
            x = x + share * slope
        x = on_step(alpha_next * x, level, seen)
    return x


NODES, WEIGHTS = np.polynomial.legendre.leggauss(32)
"""Exact for polynomials of degree 63, and to rounding for what a step integrates."""


def _integrals(places: np.ndarray, start: float, end: float, rate: Function) -> list[float]:
    """The integral from `start` to `end` of `rate` times each Lagrange polynomial through `places`.

    In the polynomial's own variable, because a logarithm near the end of a long step is far from any polynomial.
    """
    place = start + (end - start) * (NODES + 1) / 2
    result = []
    for k, own in enumerate(places):
        basis = rate(place)
        for other in (*places[:k], *places[k + 1 :]):
            basis = basis * (place - other) / (own - other)
        result.append(float((end - start) / 2 * (WEIGHTS * basis).sum()))
    return result


ADAMS_BASHFORTH = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def plms(
    denoise: Denoise,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    on_step: OnStep = keep,
) -> Tensor:
    """PLMS (Liu et al. 2022, "Pseudo Numerical Methods for Diffusion Models", eq. 9 and 12), deterministic.

    It starts with two half-hearted steps instead of the paper's Runge-Kutta steps (LDM's sampler): the second
    of `steps` takes the first once more, with the mean of the outputs at its ends. Outputs are combined raw,
    and read at the level where x lies. Returns the finished x (B, c, h, w).
    """
    return _linear_multistep(denoise, x, steps, on_step, [], redo=True)


def pndm(
    denoise: Denoise,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    on_step: OnStep = keep,
) -> Tensor:
    """PNDM (Liu et al. 2022, Algorithm 2): three pseudo Runge-Kutta steps (eq. 13), then the linear multistep method
    (eq. 12), deterministic. `steps`: four for each of the first three. Returns the finished x (B, c, h, w).
    """
    outputs: list[Tensor] = []
    levels = list(with_level_after(steps))
    for first in range(0, 12, 4):
        start, combined = x, None
        for place, ((step, level), share) in enumerate(zip(levels[first : first + 4], (1, 2, 2, 1), strict=True)):
            seen = denoise(x, step.at)
            if place == 0:
                outputs.append(seen.raw)
            combined = share / 6 * seen.raw if combined is None else combined + share / 6 * seen.raw
            x = on_step(_transfer(denoise, start, combined if place == 3 else seen.raw, step), level, seen)
    return _linear_multistep(denoise, x, steps[12:], on_step, outputs, redo=False)


def _linear_multistep(
    denoise: Denoise, x: Tensor, steps: Sequence[Step], on_step: OnStep, outputs: list[Tensor], *, redo: bool
) -> Tensor:
    """Eq. 12, from the earlier raw `outputs`, the first of them the oldest."""
    start = x
    for i, (step, level) in enumerate(with_level_after(steps)):
        seen = denoise(x, step.at)
        if redo and i == 1:
            x, raw = start, (seen.raw + outputs[-1]) / 2
        else:
            outputs = [*outputs[-3:], seen.raw]
            shares = ADAMS_BASHFORTH[len(outputs)]
            raw = shares[0] * outputs[-1]
            for back, share in enumerate(shares[1:], 2):
                raw = raw + share * outputs[-back]
        x = on_step(_transfer(denoise, x, raw, step), level, seen)
    return x


def _transfer(denoise: Denoise, x: Tensor, raw: Tensor, step: Step) -> Tensor:
    """Eq. 9 of PNDM, which is DDIM's step, in the plane."""
    read = denoise.read(raw, x, step.now)
    return step.next.mix(read.x0, read.eps)
