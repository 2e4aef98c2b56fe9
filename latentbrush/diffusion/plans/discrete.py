"""Plans whose levels come straight from the schedule's table: DDIM, DDPM, PNDM, LCM and TCD."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from latentbrush.diffusion.level import Level, Plan, Step
from latentbrush.diffusion.plan_config import PlanConfig
from latentbrush.diffusion.plans.parts import (
    chain,
    last_steps,
    preserving,
    run_steps,
    whole_times,
)
from latentbrush.diffusion.schedule import Schedule
from latentbrush.errors import UserError

__all__ = ["ddim_plan", "ddpm_plan", "lcm_plan", "plms_plan", "pndm_plan", "tcd_plan"]


def ddim_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """DDIMScheduler's plan: levels straight from the table, each step down by T // n_steps.

    An abar_T of zero stays zero.
    """
    times, abar = whole_times(schedule, n_steps, config), schedule.alphas_cumprod.tolist()
    ratio = schedule.num_train_timesteps // n_steps
    final = 1.0 if config.set_alpha_to_one else abar[0]
    steps = []
    for i, t in enumerate(times):
        after = t - ratio
        told = float(after) if after >= 0 and i + 1 < len(times) else None
        steps.append(Step(preserving(abar[t], float(t)), preserving(abar[after] if after >= 0 else final, told)))
    return Plan(last_steps(steps, n_steps, strength), start_scale=1.0, options={"eta": config.eta})


def ddpm_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """DDPMScheduler's plan: levels straight from the table, each step to the next time of the list, then to
    abar = 1."""
    times, abar = whole_times(schedule, n_steps, config), schedule.alphas_cumprod.tolist()
    levels = [*(preserving(abar[t], float(t)) for t in times), Level(1.0, 0.0)]
    steps = last_steps(chain(levels), n_steps, strength)
    return Plan(steps, start_scale=1.0, options={"variance": config.variance_type})


def plms_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """PNDMScheduler's plan with skip_prk_steps: the second time twice, each step down by T // n_steps.

    The second entry takes the first step once more. With a strength diffusers leaves entries out before it
    counts them, so that from the third step on x lies a step above the level that is read; so here.
    """
    times, at = whole_times(schedule, n_steps, config), _levels(schedule, config)
    ratio = schedule.num_train_timesteps // n_steps
    run = run_steps(n_steps, strength)
    entries = [*times[:2], *times[1:]][n_steps - run :] if run else []
    steps = []
    for i, t in enumerate(entries):
        now, after = (t + ratio, t) if i == 1 else (t, t - ratio)
        steps.append(Step(at(now), at(after), at(t)))
    return Plan(_finished(steps), start_scale=1.0)


def pndm_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """PNDMScheduler's plan without skip_prk_steps: of the first four times the three steps between them by
    Runge-Kutta, four evaluations each; then each step down by T // n_steps.

    With a strength the first steps are those of the times that are left. (diffusers computes them as if at
    the full list's beginning, which paints noise.) UserError where fewer than four steps are left.
    """
    times, at = whole_times(schedule, n_steps, config), _levels(schedule, config)
    ratio = schedule.num_train_timesteps // n_steps
    run = run_steps(n_steps, strength)
    times = times[n_steps - run :] if run else []
    if 0 < len(times) < 4:
        raise UserError(f"pndm starts with four times, and {len(times)} are left to run; choose more steps, or plms")
    steps = []
    for high, low in pairwise(times[:4]):
        middle = low + ratio // 2
        for asked, after in ((high, high - ratio // 2), (middle, middle), (middle, low), (low, low)):
            steps.append(Step(at(high), at(after), at(asked)))
    steps += [Step(at(t), at(t - ratio)) for t in times[3:]]
    return Plan(_finished(steps), start_scale=1.0)


def lcm_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """LCMScheduler's plan: of the times of the distillation, of which there are `original_inference_steps`, the
    highest and then every so many; from the last the picture is finished."""
    times, abar = _distilled_times("lcm", schedule, n_steps, config), schedule.alphas_cumprod.tolist()
    levels = [*(preserving(abar[t], float(t)) for t in times), Level(1.0, 0.0)]
    steps = last_steps(chain(levels), n_steps, strength)
    return Plan(steps, start_scale=1.0, options={"scaling": config.timestep_scaling})


def tcd_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """TCDScheduler's plan: LCM's times, each step by way of (1 - eta) times the next, rounded down; the last goes
    to time 0, and abar_0."""
    times, abar = _distilled_times("tcd", schedule, n_steps, config), schedule.alphas_cumprod.tolist()
    steps = []
    for t, after in zip(times, [*times[1:], 0], strict=True):
        low = int(np.floor(np.float32(1 - config.eta) * np.float32(after)))  # in float32, as published
        told = float(after) if t != times[-1] else None
        steps.append(
            Step(preserving(abar[t], float(t)), preserving(abar[after], told), mid=preserving(abar[low], float(low)))
        )
    return Plan(last_steps(steps, n_steps, strength), start_scale=1.0)


def _distilled_times(name: str, schedule: Schedule, n_steps: int, config: PlanConfig) -> list[int]:
    T, original = schedule.num_train_timesteps, config.original_inference_steps
    if original > T:
        raise UserError(f"original_inference_steps is {original}, but the model was trained with {T}; choose fewer")
    if not 1 <= n_steps <= original:
        raise UserError(
            f"{n_steps} steps are asked for; choose 1 to {original}, the original_inference_steps of {name}"
        )
    times = [(i + 1) * (T // original) - 1 for i in reversed(range(original))]
    return [times[math.floor(place)] for place in np.linspace(0, original, n_steps, endpoint=False)]


def _levels(schedule: Schedule, config: PlanConfig) -> Callable[[int], Level]:
    """The level of a time; below 0 that of the end, which is told no time."""
    abar = schedule.alphas_cumprod.tolist()
    final = preserving(1.0 if config.set_alpha_to_one else abar[0], None)
    return lambda t: preserving(abar[t], float(t)) if t >= 0 else final


def _finished(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps, the last of them to a level without a time."""
    if not steps:
        return ()
    last = steps[-1]
    return (*steps[:-1], Step(last.now, Level(last.next.alpha, last.next.sigma), last.at))
