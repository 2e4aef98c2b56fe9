"""Ratios sigma / alpha of noise to picture: between the entries of a schedule's table and back, and paths of them.

Number types and the order of operations are diffusers', because its plans are rounded that way.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from latentbrush.diffusion.schedule import Schedule
from latentbrush.errors import UserError

__all__ = ["KARRAS_RHO", "SIGMA_PATHS", "SigmaPath", "sigma_path", "sigma_table", "sigmas_at", "times_of"]

SigmaPath = Literal["spaced", "karras", "exponential", "beta", "simple", "sgm_uniform", "ays", "ays_sdxl"]
SIGMA_PATHS: tuple[str, ...] = get_args(SigmaPath)
"""'spaced' is none of the others: sigmas are read off the table at the spacing's times."""

KARRAS_RHO = 7.0
"""Karras et al. 2022's choice: steps shorten towards low noise."""
BETA_SHAPE = 0.6
"""Both parameters of the beta distribution, of Lee et al. 2024's choice."""

AYS_TIMES = {
    "ays": (999, 850, 736, 645, 545, 455, 343, 233, 124, 24, 0),
    "ays_sdxl": (999, 845, 730, 587, 443, 310, 193, 116, 53, 13, 0),
}
"""Of ten steps and their end, as published with Sabour et al. 2024 for Stable Diffusion 1 and SDXL."""
AYS_SIGMA_MAX = 14.615
"""The first of their sigmas: both models' schedule ends there."""

Floats = NDArray[np.float64]
Table = NDArray[np.float32]


def sigma_table(schedule: Schedule) -> Table:
    """sqrt((1 - abar_t) / abar_t) for t = 0 .. T - 1, (T,), rising."""
    abar = schedule.alphas_cumprod.float()
    if abar[-1] == 0:  # rescaled, or a table of betas that ends in 1
        abar[-1] = 2**-24  # float16's least number: sigma is 4096 there instead of infinite
    table: Table = (((1 - abar) / abar) ** 0.5).numpy()
    return table


def sigmas_at(times: Floats, table: Table) -> Floats:
    """The table's values at `times`, linear between entries; beyond the ends the end's value holds."""
    return np.interp(times, np.arange(len(table)), table)


def sigma_path(name: SigmaPath, highest: float, lowest: float, n_steps: int, table: Table) -> Floats:
    """`n_steps` falling sigmas of a path, without the last jump to 0.

    Between `highest` and `lowest`, which is reached in more than one step:
    'karras': evenly spread in sigma^(1/7) (Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based
    Generative Models", eq. 5); 'exponential': in log(sigma);
    'beta': at evenly spread quantiles of the beta distribution (Lee et al. 2024, "Beta Sampling is All You Need").
    Over the whole `table` (T,):
    'simple': every (T / n_steps)-th entry, from the last down (ComfyUI's path of this name);
    'sgm_uniform': n_steps + 1 times evenly spread, the last left out (as in Stability AI's generative-models);
    'ays', 'ays_sdxl': Sabour et al. 2024, "Align Your Steps", its ten steps, for other numbers linear between
    them in log(sigma). Raises `UserError` where they were found for another table.
    """
    T = len(table)
    share = np.linspace(0, 1, n_steps)
    if name == "karras":
        start, end = highest ** (1 / KARRAS_RHO), lowest ** (1 / KARRAS_RHO)
        sigmas: Floats = (start + share * (end - start)) ** KARRAS_RHO
        return sigmas
    if name == "exponential":
        return np.exp(np.linspace(math.log(highest), math.log(lowest), n_steps))
    if name == "beta":
        return lowest + _beta_quantiles(1 - share) * (highest - lowest)
    if name == "simple":
        return np.array([table[T - 1 - int(i * T / n_steps)] for i in range(n_steps)], dtype=np.float64)
    if name == "sgm_uniform":
        times = np.linspace(T - 1, 0, n_steps + 1)[:-1]
        return np.exp(np.interp(times, np.arange(T), np.log(table.astype(np.float64))))
    if T != 1000 or abs(float(table[-1]) / AYS_SIGMA_MAX - 1) > 0.01:
        raise UserError(
            f"the sigmas {name} were found for Stable Diffusion's schedule, 1000 steps up to sigma {AYS_SIGMA_MAX}; "
            f"this one has {T}, up to {table[-1]:.4g}; choose karras, exponential or beta"
        )
    published = np.log(table[list(AYS_TIMES[name])].astype(np.float64))
    places = np.linspace(0, len(published) - 1, n_steps + 1)[:-1]
    return np.exp(np.interp(places, np.arange(len(published)), published))


def times_of(sigmas: NDArray[np.floating], table: Table) -> Floats:
    """The fractional times in 0 .. T - 1 at which the table has these sigmas, linear in log(sigma).

    float32 sigmas are looked up in float32, as diffusers does those of its midpoints.
    """
    logs, wanted = np.log(table), np.log(np.maximum(sigmas, 1e-10))
    below = (np.searchsorted(logs, wanted, side="right") - 1).clip(0, len(table) - 2)
    share = ((logs[below] - wanted) / (logs[below] - logs[below + 1])).clip(0, 1)
    low = below.astype(share.dtype)
    times: Floats = ((1 - share) * low + share * (low + 1)).astype(np.float64)
    return times


def _beta_quantiles(shares: Floats) -> Floats:
    """Where the beta distribution's cumulative probability reaches each of `shares`, by bisection.

    The distribution is symmetric, so that only its lower half is searched, where the series converges.
    """
    folded = np.minimum(shares, 1 - shares)
    low, high = np.zeros_like(folded), np.full_like(folded, 0.5)
    whole = 2 * _incomplete_beta(np.array([0.5]))
    for _ in range(100):
        middle = (low + high) / 2
        under = _incomplete_beta(middle) < folded * whole
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return np.where(shares <= 0.5, low, 1 - low)


def _incomplete_beta(x: Floats) -> Floats:
    """The integral of (u (1 - u))^(shape - 1) from 0 to x, at most 1/2: the binomial series, term by term."""
    total, factor = np.zeros_like(x), 1.0
    for n in range(60):  # x^60 < 1e-18
        total = total + factor * x ** (n + BETA_SHAPE) / (n + BETA_SHAPE)
        factor *= (n + 1 - BETA_SHAPE) / (n + 1)
    return total
