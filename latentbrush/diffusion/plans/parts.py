"""What the builders of plans share: levels of the table, the ends of a list, and what they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from latentbrush.diffusion.level import Level, Step
from latentbrush.diffusion.plan_config import FinalSigma, PlanConfig
from latentbrush.diffusion.schedule import Schedule
from latentbrush.diffusion.spacing import leading, linspace, trailing
from latentbrush.errors import UserError

__all__ = [
    "chain",
    "last_steps",
    "preserving",
    "require_steps",
    "run_steps",
    "whole_times",
    "with_end",
]


def require_steps(n_steps: int, most: int) -> None:
    if not 1 <= n_steps <= most:
        raise UserError(f"{n_steps} steps are asked for; choose 1 to {most}, the steps the model was trained with")


def run_steps(n_steps: int, strength: float) -> int:
    """How many of n_steps a strength leaves."""
    if not 0 <= strength <= 1:
        raise UserError(f"strength is {strength}; choose a number from 0 (the guide itself) to 1 (no guide)")
    return min(int(n_steps * strength), n_steps)


def last_steps(steps: Sequence[Step], n_steps: int, strength: float) -> tuple[Step, ...]:
    """The steps that a strength leaves of all of them, of which trailing spacing may have one more than n_steps."""
    run = run_steps(n_steps, strength)
    return tuple(steps[n_steps - run :]) if run else ()


def whole_times(schedule: Schedule, n_steps: int, config: PlanConfig) -> list[int]:
    """The times of DDIM, DDPM and PNDM.

    Where trailing spacing yields a further entry t = -1, it is left out: x is finished by then, and
    diffusers, reading abar[-1], would treat it as pure noise.
    """
    T = schedule.num_train_timesteps
    require_steps(n_steps, T)
    times = {
        "leading": lambda: leading(n_steps, T // n_steps, config.steps_offset),
        "trailing": lambda: trailing(T, n_steps),
        "linspace": lambda: linspace(T, n_steps).round(),
    }[config.spacing]()
    if times[0] >= T:
        raise UserError(
            f"{n_steps} steps with steps_offset {config.steps_offset} start at time {times[0]:.0f}, "
            f"the schedule ends at {T - 1}; choose fewer steps or a smaller steps_offset"
        )
    return [int(t) for t in times if t >= 0]


def preserving(abar: float, t: float | None) -> Level:
    """The variance-preserving level of an entry of the table."""
    return Level(abar**0.5, (1.0 - abar) ** 0.5, t)


def with_end(
    sigmas: NDArray[np.float64], times: NDArray[np.float64], table: NDArray[np.float32], final: FinalSigma
) -> list[Level]:
    """Levels of alpha = 1, and the finished one. Sigmas are rounded to float32, as published."""
    ends = np.append(sigmas, 0.0 if final == "zero" else float(table[0])).astype(np.float32).astype(np.float64)
    return [Level(1.0, sigma, t) for sigma, t in zip(ends.tolist(), [*times.tolist(), None], strict=True)]


def chain(levels: Sequence[Level]) -> tuple[Step, ...]:
    return tuple(Step(now, after) for now, after in pairwise(levels))
