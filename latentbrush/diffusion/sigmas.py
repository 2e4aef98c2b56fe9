"""Ratios sigma / alpha of noise to picture, between the entries of a schedule's table and back.

Number types and the order of operations are diffusers', because its plans are rounded that way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latentbrush.diffusion.schedule import Schedule

__all__ = ["KARRAS_RHO", "karras_sigmas", "sigma_table", "sigmas_at", "times_of"]

KARRAS_RHO = 7.0
"""Karras et al. 2022's choice: steps shorten towards low noise."""

Floats = NDArray[np.float64]


def sigma_table(schedule: Schedule) -> NDArray[np.float32]:
    """sqrt((1 - abar_t) / abar_t) for t = 0 .. T - 1, (T,), rising."""
    abar = schedule.alphas_cumprod.float()
    if schedule.rescale_zero_snr:
        abar[-1] = 2**-24  # float16's least number: sigma is 4096 there instead of infinite
    table: NDArray[np.float32] = (((1 - abar) / abar) ** 0.5).numpy()
    return table


def sigmas_at(times: Floats, table: NDArray[np.float32]) -> Floats:
    """The table's values at `times`, linear between entries; beyond the ends the end's value holds."""
    return np.interp(times, np.arange(len(table)), table)


def karras_sigmas(highest: float, lowest: float, n_steps: int) -> Floats:
    """`n_steps` falling sigmas, evenly spread in sigma^(1/7) (Karras et al. 2022, "Elucidating the Design
    Space of Diffusion-Based Generative Models", eq. 5). One sigma is the highest."""
    start, end = highest ** (1 / KARRAS_RHO), lowest ** (1 / KARRAS_RHO)
    sigmas: Floats = (start + np.linspace(0, 1, n_steps) * (end - start)) ** KARRAS_RHO
    return sigmas


def times_of(sigmas: Floats, table: NDArray[np.float32]) -> Floats:
    """The fractional times in 0 .. T - 1 at which the table has these sigmas, linear in log(sigma)."""
    logs, wanted = np.log(table), np.log(np.maximum(sigmas, 1e-10))
    below = (np.searchsorted(logs, wanted, side="right") - 1).clip(0, len(table) - 2)
    share = ((logs[below] - wanted) / (logs[below] - logs[below + 1])).clip(0, 1)
    times: Floats = (1 - share) * below + share * (below + 1)
    return times
