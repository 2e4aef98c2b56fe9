"""DPM-Solver++ (Lu et al. 2022): an exponential integrator in x0 over lambda = log(alpha / sigma), ODE or SDE."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from latentbrush.diffusion.denoiser import Denoise
from latentbrush.diffusion.level import Step, with_level_after
from latentbrush.diffusion.samplers.contract import Noise, OnStep, keep, order_of

__all__ = ["SolverType", "dpmpp_multistep", "dpmpp_singlestep"]

SolverType = Literal["midpoint", "heun"]
"""How a second-order step weighs the slope of x0: as if taken in the step's middle, or exactly integrated."""


def dpmpp_multistep(
    denoise: Denoise,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    on_step: OnStep = keep,
    *,
    order: int = 2,
    euler_last: bool = True,
    lower_order_final: bool = False,
    solver_type: SolverType = "midpoint",
    eta: float = 0.0,
) -> Tensor:
    """DPM-Solver++ multistep: 2M is Algorithm 2 of Lu et al. 2022, "DPM-Solver++"; 3M their section 3.3's third order.

    `order`: 1 (DDIM's steps), 2 or 3, as far as there are earlier estimates. `euler_last`: the last step is of
    first order, which it must be where it ends at sigma = 0. `lower_order_final`: no step is of a higher order
    than steps are left. `solver_type` of second-order steps. `eta`: 0 the probability flow, 1 the SDE (their
    section 3.4), each with the noise of DDIM's eta. Returns the finished x (B, c, h, w).
    """
    past: list[tuple[float, Tensor]] = []  # (lambda, x0), the last first
    for i, (step, level) in enumerate(with_level_after(steps)):
        seen = denoise(x, step.at)
        past = [(step.now.log_ratio(), seen.x0), *past[:2]]
        most = order_of(i, len(steps), order, euler_last=euler_last, lower_order_final=lower_order_final)
        h = step.next.log_ratio() - past[0][0]
        derivatives = _derivatives(past[:most], h)
        x = _integrate(x, seen.x0, derivatives, h, step, solver_type, eta)
        variance = _added(step, eta)
        if variance > 0:
            x = x + math.sqrt(variance) * noise()
        x = on_step(x, level, seen)
    return x


def dpmpp_singlestep(
    denoise: Denoise,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    on_step: OnStep = keep,
    *,
    solver_type: SolverType = "midpoint",
) -> Tensor:
    """DPM-Solver++ singlestep: 2S (Lu et al. 2022, "DPM-Solver++", Algorithm 1), 3S (DPM-Solver, Algorithm 2, in x0).

    The plan says where a block begins: with a step asked at its own `now`. Each further step of the block starts
    there again, with one more estimate and one order more. Returns the finished x (B, c, h, w).
    """
    start, known = x, [(0.0, x)]
    for step, level in with_level_after(steps):
        seen = denoise(x, step.at)
        if step.at == step.now:
            start, known = x, []
        known.append((step.at.log_ratio(), seen.x0))
        h = step.next.log_ratio() - known[0][0]
        (_, x0), slopes = known[0], [(m - known[0][1]) * (h / (at - known[0][0])) for at, m in known[1:]]
        shares = [(at - known[0][0]) / h for at, _ in known[1:]]
        if len(slopes) == 2 and solver_type == "heun":
            # of the parabola through all three: its slope and its curvature at the block's start
            (near, far), (r_near, r_far) = slopes, shares
            slopes = [(r_far * near - r_near * far) / (r_far - r_near), 2 * (far - near) / (r_far - r_near)]
        elif len(slopes) == 2:
            slopes = [slopes[1], torch.zeros_like(x)]
        x = on_step(_integrate(start, x0, slopes, h, step, solver_type, 0.0), level, seen)
    return x


def _derivatives(past: Sequence[tuple[float, Tensor]], h: float) -> list[Tensor]:
    """h times x0's first derivative by lambda, and h^2 times half its second, from divided differences.

    The published coefficient (section 3.3; diffusers, k-diffusion) is that of the whole second derivative, so that
    3M is more exact than 2M, but also of second order.

    None after an infinite step, as from alpha = 0, and where two estimates lie at one level: neither says
    how x0 changes.
    """
    widths = [now - before for (now, _), (before, _) in pairwise(past)]
    known = next((i for i, width in enumerate(widths) if not 0 < width < math.inf), len(widths))
    slopes = [
        (m - earlier) * (h / width)
        for ((_, m), (_, earlier)), width in zip(pairwise(past), widths[:known], strict=False)
    ]
    if len(slopes) < 2:
        return slopes
    whole = widths[0] + widths[1]
    change = slopes[0] - slopes[1]
    return [slopes[0] + widths[0] / whole * change, h / whole * change]


def _integrate(
    x: Tensor, x0: Tensor, derivatives: Sequence[Tensor], h: float, step: Step, solver_type: SolverType, eta: float
) -> Tensor:
    """x at the step's end without its noise: eq. 9 and 18 of the paper, integrals over an x0 that changes so."""
    (alpha, sigma), (alpha_next, sigma_next) = step.now.floats(), step.next.floats()
    decay = alpha * sigma_next / (sigma * alpha_next)  # e^-h
    u, left = (1.0 + eta) * h, math.pow(decay, 1.0 + eta)  # e^-u
    x = (sigma_next / sigma * math.pow(decay, eta)) * x + (alpha_next * (1.0 - left)) * x0
    if u == 0:  # a step of no width, at the end of some published lists
        return x
    if len(derivatives) == 1 and solver_type == "midpoint":
        return x + (alpha_next * 0.5 * (1.0 - left)) * derivatives[0]
    if derivatives:
        x = x + (alpha_next * ((left - 1.0) / u + 1.0)) * derivatives[0]
    if len(derivatives) == 2:
        x = x - (alpha_next * ((left - 1.0 + u) / u**2 - 0.5)) * derivatives[1]
    return x


def _added(step: Step, eta: float) -> float:
    """The variance of a step's noise: sigma'^2 (1 - e^(-2 eta h))."""
    if eta == 0:
        return 0.0
    (alpha, sigma), (alpha_next, sigma_next) = step.now.floats(), step.next.floats()
    return sigma_next**2 * (1.0 - math.pow(alpha * sigma_next / (sigma * alpha_next), 2.0 * eta))
