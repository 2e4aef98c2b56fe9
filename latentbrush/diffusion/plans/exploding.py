"""Variance-exploding plans (alpha = 1) of Euler and its kin: sigmas at the spacing's times, or along a path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from latentbrush.diffusion.level import Level, Plan, Step
from latentbrush.diffusion.plan_config import FinalSigma, PlanConfig
from latentbrush.diffusion.plans.parts import chain, last_steps, require_steps, with_end
from latentbrush.diffusion.samplers.contract import ancestral
from latentbrush.diffusion.schedule import Schedule
from latentbrush.diffusion.sigmas import sigma_path, sigma_table, sigmas_at, times_of
from latentbrush.diffusion.spacing import leading, linspace, trailing

__all__ = [
    "dpm2_ancestral_plan",
    "dpm2_plan",
    "dpmpp_2s_ancestral_plan",
    "dpmpp_sde_plan",
    "euler_ancestral_plan",
    "euler_plan",
    "heun_plan",
    "lms_plan",
]

Times = NDArray[np.float64]


def euler_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """EulerDiscreteScheduler's plan: alpha = 1, sigmas interpolated at (for linspace) fractional times.

    It starts at the highest sigma (linspace, trailing) or at sqrt(sigma^2 + 1) (leading).
    """
    plan = _exploding(schedule, n_steps, config, final=config.final_sigmas_type)
    return _cut(plan, n_steps, strength, options={"eta": 0.0})


def euler_ancestral_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """EulerAncestralDiscreteScheduler's plan: Euler's, always to sigma = 0. (diffusers' has no other paths.)"""
    return _cut(_exploding(schedule, n_steps, config), n_steps, strength, options={"eta": 1.0})


def heun_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """HeunDiscreteScheduler's plan: Euler's, always to sigma = 0. (diffusers lists each level twice.)"""
    plan = _exploding(schedule, n_steps, config)
    return _cut(_with_mids(plan, schedule, lambda _, step: step.next), n_steps, strength)


def lms_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """LMSDiscreteScheduler's plan: Euler's, always to sigma = 0, started at the highest sigma or sqrt(sigma^2 + 1).

    A further entry t = -1 of trailing spacing is left out, for no polynomial goes through one level twice.
    """
    plan = _exploding(schedule, n_steps, config)
    steps = tuple(step for step in plan.steps if step.now.t != -1)
    steps = (*steps[:-1], Step(steps[-1].now, plan.steps[-1].next))
    return _cut(replace(plan, steps=steps), n_steps, strength)


def dpm2_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """KDPM2DiscreteScheduler's plan: Euler's, each step by way of its middle in log(sigma); Karras's times are
    whole."""
    table = sigma_table(schedule)
    plan = _exploding(schedule, n_steps, config, times=_karras_rounded)
    middles = _with_mids(plan, schedule, lambda _, step: _middle32(step.next, step.now, table))
    return _cut(middles, n_steps, strength)


def dpm2_ancestral_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """KDPM2AncestralDiscreteScheduler's plan: DPM2's, with the middle of the way down, before noise is added."""
    table = sigma_table(schedule)
    plan = _exploding(schedule, n_steps, config, times=_karras_rounded)
    middles = _with_mids(plan, schedule, lambda _, step: _middle32(step.now, _down32(step), table))
    return _cut(middles, n_steps, strength, options={"eta": 1.0})


def dpmpp_2s_ancestral_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """k-diffusion's plan for its sampler of this name: Euler ancestral's, with the middle of the way down."""
    table = sigma_table(schedule)
    plan = _exploding(schedule, n_steps, config)
    middles = _with_mids(
        plan, schedule, lambda _, step: _middle(step.now, ancestral(step.now, step.next)[0], table), everywhere=True
    )
    return _cut(middles, n_steps, strength)


def dpmpp_sde_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """DPMSolverSDEScheduler's plan: Euler's in float64, each step by way of its middle in log(sigma)."""
    table = sigma_table(schedule)
    plan = _exploding(schedule, n_steps, config, times=_unrounded)
    sigmas, _ = _points(schedule, n_steps, config, _unrounded)

    def mid(i: int, step: Step) -> Level:  # the time is that of sigmas before they were rounded
        t = times_of(np.sqrt(sigmas[i : i + 1] * sigmas[i + 1 : i + 2]), table)
        return replace(_middle(step.now, step.next, table), t=float(t[0]))

    return _cut(_with_mids(plan, schedule, mid, everywhere=True), n_steps, strength)


def _unrounded(name: str, times: Times) -> Times:
    return times


def _single(name: str, times: Times) -> Times:
    return times.astype(np.float32).astype(np.float64)


def _karras_rounded(name: str, times: Times) -> Times:
    return times.round() if name == "karras" else _single(name, times) if name == "spaced" else times


def _exploding(
    schedule: Schedule,
    n_steps: int,
    config: PlanConfig,
    *,
    final: FinalSigma = "zero",
    times: Callable[[str, Times], Times] = _single,
) -> Plan:
    """All steps, as `_points` has them, to the level `final`."""
    sigmas, asked = _points(schedule, n_steps, config, times)
    levels = with_end(sigmas, asked, sigma_table(schedule), final)
    _, highest = levels[0].floats()
    scale = float((highest**2 + 1) ** 0.5) if config.spacing == "leading" else highest
    return Plan(chain(levels), start_scale=scale)


def _points(
    schedule: Schedule, n_steps: int, config: PlanConfig, times: Callable[[str, Times], Times]
) -> tuple[Times, Times]:
    """Sigmas and their times, rounded by `times`. A path's reach over the range of the spacing's."""
    T, table = schedule.num_train_timesteps, sigma_table(schedule)
    require_steps(n_steps, T)
    asked = {
        "leading": lambda: leading(n_steps, T // n_steps, config.steps_offset),
        "trailing": lambda: trailing(T, n_steps),
        "linspace": lambda: times("spaced", linspace(T, n_steps)),
    }[config.spacing]()
    sigmas = sigmas_at(asked, table)
    if config.sigmas != "spaced":
        sigmas = sigma_path(config.sigmas, float(sigmas[0]), float(sigmas[-1]), n_steps, table)
        asked = times(config.sigmas, times_of(sigmas, table))
    return sigmas, asked


def _cut(plan: Plan, n_steps: int, strength: float, options: dict[str, float] | None = None) -> Plan:
    return replace(plan, steps=last_steps(plan.steps, n_steps, strength), options=options or {})


def _with_mids(plan: Plan, schedule: Schedule, mid: Callable[[int, Step], Level], *, everywhere: bool = False) -> Plan:
    """The plan with a second evaluation at each step's `mid`, but for steps to sigma = 0 or a finished level.

    Methods that weigh slopes in sigma take the step away from pure noise once (zero terminal SNR; unless
    `everywhere`): an error of x0 at the second evaluation would count sigma / sigma_mid times, a hundredfold
    from the 4096 that stands for infinity, where DDIM's step is already exact if x0 does not change.
    """

    def second(i: int, step: Step) -> Level | None:
        _, sigma = step.next.floats()
        away = i == 0 and schedule.rescale_zero_snr and step.now.t == schedule.num_train_timesteps - 1
        return None if sigma == 0 or step.next.t is None or (away and not everywhere) else mid(i, step)

    steps = tuple(Step(step.now, step.next, mid=second(i, step)) for i, step in enumerate(plan.steps))
    return replace(plan, steps=steps, calls_per_step=2)


def _middle(now: Level, after: Level, table: NDArray[np.float32]) -> Level:
    """The middle in log(sigma), at alpha = 1."""
    sigma = float(np.sqrt(now.sigma) * np.sqrt(after.sigma))
    return Level(1.0, sigma, float(times_of(np.array([sigma]), table)[0]))


def _down32(step: Step) -> Level:
    """The level of `ancestral`, computed in float32 as diffusers does; only middles are taken from it.

    A step down to a few thousandths leaves nothing of that difference of squares, or less: then it is what
    `ancestral` says, because a middle at 0, which diffusers takes, makes the picture NaN.
    """
    high, low = (torch.tensor([level.sigma], dtype=torch.float32) for level in (step.now, step.next))
    up = (low**2 * (high**2 - low**2) / high**2) ** 0.5
    down = low**2 - up**2
    return Level(1.0, float(down**0.5)) if down > 0 else ancestral(step.now, step.next)[0]


def _middle32(one: Level, other: Level, table: NDArray[np.float32]) -> Level:
    """The same with the roundings of diffusers' DPM2 schedulers, to float32, in their order."""
    first, second = (torch.tensor([level.sigma], dtype=torch.float32).log() for level in (one, other))
    sigma = first.lerp(second, 0.5).exp().numpy()
    return Level(1.0, float(sigma[0]), float(times_of(sigma, table)[0]))
