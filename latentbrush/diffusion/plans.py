"""Plans: the levels that a named, published scheduler visits in a number of steps, from noise or a guide.

Each builder takes the whole schedule and returns the whole plan, so that what depends on the number of
steps (the scale of the first x, the order of the last step) is decided in one place. The published
schedulers are diffusers'; where they differ in rounding, so do these.

`strength` in [0, 1] leaves out the first steps, as diffusers' image-to-image pipeline does: of n_steps the
last int(n_steps * strength) are run. All else is as it is without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from latentbrush.diffusion.level import Level, Plan, Step
from latentbrush.diffusion.plan_config import FinalSigma, PlanConfig
from latentbrush.diffusion.samplers import ddim, ddpm, dpmpp_2m, heun
from latentbrush.diffusion.schedule import Schedule
from latentbrush.diffusion.sigmas import karras_sigmas, sigma_table, sigmas_at, times_of
from latentbrush.diffusion.spacing import leading, linspace, trailing
from latentbrush.errors import UserError

__all__ = [
    "SAMPLERS",
    "Sampler",
    "ddim_plan",
    "ddpm_plan",
    "dpmpp_2m_plan",
    "euler_ancestral_plan",
    "euler_plan",
    "find_sampler",
    "heun_plan",
    "make_plan",
]


def ddim_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """DDIMScheduler's plan: levels straight from the table, each step down by T // n_steps.

    An abar_T of zero stays zero.
    """
    times, abar = _whole_times(schedule, n_steps, config), schedule.alphas_cumprod.tolist()
    ratio = schedule.num_train_timesteps // n_steps
    final = 1.0 if config.set_alpha_to_one else abar[0]
    steps = []
    for i, t in enumerate(times):
        after = t - ratio
        told = float(after) if after >= 0 and i + 1 < len(times) else None
        steps.append(Step(_preserving(abar[t], float(t)), _preserving(abar[after] if after >= 0 else final, told)))
    return Plan(_last(steps, n_steps, strength), start_scale=1.0, options={"eta": config.eta})


def ddpm_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """DDPMScheduler's plan: levels straight from the table, each step to the next time of the list, then to
    abar = 1."""
    _refuse_eta("ddpm", config, "has its variance_type instead; set eta to 0")
    times, abar = _whole_times(schedule, n_steps, config), schedule.alphas_cumprod.tolist()
    levels = [*(_preserving(abar[t], float(t)) for t in times), Level(1.0, 0.0)]
    steps = _last(_chain(levels), n_steps, strength)
    return Plan(steps, start_scale=1.0, options={"variance": config.variance_type})


def euler_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """EulerDiscreteScheduler's plan: alpha = 1, sigmas interpolated at (for linspace) fractional times.

    It starts at the highest sigma (linspace, trailing) or at sqrt(sigma^2 + 1) (leading).
    """
    _refuse_eta("euler", config, "is deterministic; set eta to 0 or choose ddim")
    return _exploding(schedule, n_steps, config, strength, config.final_sigmas_type, config.use_karras_sigmas)


def euler_ancestral_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """EulerAncestralDiscreteScheduler's plan: Euler's, without Karras's sigmas and always to sigma = 0."""
    _refuse_eta("euler_ancestral", config, "always draws as with 1; set eta to 0 or choose ddim")
    return replace(_exploding(schedule, n_steps, config, strength, "zero", False), options={"eta": 1.0})


def heun_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """HeunDiscreteScheduler's plan: Euler's, always to sigma = 0. (diffusers lists each level twice.)"""
    _refuse_eta("heun", config, "is deterministic; set eta to 0 or choose ddim")
    plan = _exploding(schedule, n_steps, config, strength, "zero", config.use_karras_sigmas)
    return replace(plan, options={}, calls_per_step=2)


def dpmpp_2m_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """DPMSolverMultistepScheduler's plan ('dpmsolver++', 'midpoint'): n_steps + 1 points, the last left out.

    Sigmas are read off as for Euler, then turned into variance-preserving levels. Karras's reach over the
    whole table, whatever the spacing, and their times are whole: rounded, or, for the cosine schedule, cut off.
    """
    _refuse_eta("dpmpp_2m", config, "is deterministic; set eta to 0 or choose ddim")
    T, table = schedule.num_train_timesteps, sigma_table(schedule)
    _require_steps(n_steps, T)
    if config.use_karras_sigmas:
        sigmas = karras_sigmas(float(table[-1]), float(table[0]), n_steps)
        times = times_of(sigmas, table)
        times = np.floor(times) if schedule.is_cosine else times.round()
    else:
        times = {
            "leading": lambda: leading(n_steps, T // (n_steps + 1), config.steps_offset, first=1),
            "trailing": lambda: trailing(T, n_steps),
            "linspace": lambda: linspace(T, n_steps + 1).round()[:-1],
        }[config.spacing]()
        if len(set(times.tolist())) < len(times):
            raise UserError(
                f"{n_steps} steps visit a time of the schedule twice; "
                f"choose at most {T - 1} for dpmpp_2m with {config.spacing} spacing"
            )
        sigmas = sigmas_at(times, table)
    levels = []
    for level in _with_end(sigmas, times, table, config.final_sigmas_type):
        _, sigma = level.floats()
        alpha = 1.0 / float((sigma**2 + 1) ** 0.5)
        levels.append(Level(alpha, sigma * alpha, level.t))
    euler_last = (
        config.final_sigmas_type == "zero" or config.euler_at_final or (config.lower_order_final and len(times) < 15)
    )
    steps = _last(_chain(levels), n_steps, strength)
    return Plan(steps, start_scale=1.0, options={"order": config.solver_order, "euler_last": euler_last})


@dataclass(frozen=True)
class Sampler:
    """A sampler that users choose by name: `run(denoise, x, steps, noise, on_step, **options)` (the module
    `samplers`), the builder of its plan, and the configuration of its published scheduler."""

    run: Callable[..., Tensor]
    plan: Callable[[Schedule, int, PlanConfig, float], Plan]
    defaults: PlanConfig


SAMPLERS: dict[str, Sampler] = {
    "ddim": Sampler(ddim, ddim_plan, PlanConfig(spacing="leading")),
    "euler": Sampler(ddim, euler_plan, PlanConfig(spacing="linspace")),  # Euler is DDIM at alpha = 1
    "dpmpp_2m": Sampler(dpmpp_2m, dpmpp_2m_plan, PlanConfig(spacing="linspace")),
    "heun": Sampler(heun, heun_plan, PlanConfig(spacing="linspace")),
    "euler_ancestral": Sampler(ddim, euler_ancestral_plan, PlanConfig(spacing="linspace")),
    "ddpm": Sampler(ddpm, ddpm_plan, PlanConfig(spacing="leading")),
}


def find_sampler(name: str) -> Sampler:
    """The sampler of that name, or `UserError` with the names there are."""
    if name not in SAMPLERS:
        raise UserError(f"sampler {name!r} is unknown; choose one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


def make_plan(
    name: str, schedule: Schedule, n_steps: int, config: PlanConfig | None = None, strength: float = 1.0
) -> Plan:
    """The plan of the sampler `name` for `n_steps` in 1 .. T, with its own defaults where `config` is None.

    Raises `UserError` for an unknown name, a number of steps or a strength outside its range, or an eta
    above 0 for a sampler without it.
    """
    sampler = find_sampler(name)
    return sampler.plan(schedule, n_steps, sampler.defaults if config is None else config, strength)


def _require_steps(n_steps: int, most: int) -> None:
    if not 1 <= n_steps <= most:
        raise UserError(f"{n_steps} steps are asked for; choose 1 to {most}, the steps the model was trained with")


def _refuse_eta(name: str, config: PlanConfig, instead: str) -> None:
    if config.eta:
        raise UserError(f"eta is {config.eta}, but {name} {instead}")


def _whole_times(schedule: Schedule, n_steps: int, config: PlanConfig) -> list[int]:
    """The times of DDIM and DDPM.

    Where trailing spacing yields a further entry t = -1, it is left out: x is finished by then, and
    diffusers, reading abar[-1], would treat it as pure noise.
    """
    T = schedule.num_train_timesteps
    _require_steps(n_steps, T)
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


def _exploding(
    schedule: Schedule, n_steps: int, config: PlanConfig, strength: float, final: FinalSigma, karras: bool
) -> Plan:
    """The plan of Euler and its kin. Karras's sigmas reach over the range of the spacing's, at their own times."""
    T, table = schedule.num_train_timesteps, sigma_table(schedule)
    _require_steps(n_steps, T)
    times = {
        "leading": lambda: leading(n_steps, T // n_steps, config.steps_offset),
        "trailing": lambda: trailing(T, n_steps),
        "linspace": lambda: linspace(T, n_steps).astype(np.float32).astype(np.float64),
    }[config.spacing]()
    sigmas = sigmas_at(times, table)
    if karras:
        sigmas = karras_sigmas(float(sigmas[0]), float(sigmas[-1]), n_steps)
        times = times_of(sigmas, table).astype(np.float32).astype(np.float64)
    levels = _with_end(sigmas, times, table, final)
    _, highest = levels[0].floats()
    scale = float((highest**2 + 1) ** 0.5) if config.spacing == "leading" else highest
    return Plan(_last(_chain(levels), n_steps, strength), start_scale=scale, options={"eta": 0.0})


def _preserving(abar: float, t: float | None) -> Level:
    return Level(abar**0.5, (1.0 - abar) ** 0.5, t)


def _with_end(
    sigmas: NDArray[np.float64], times: NDArray[np.float64], table: NDArray[np.float32], final: FinalSigma
) -> list[Level]:
    """Levels of alpha = 1, and the finished one. Sigmas are rounded to float32, as published."""
    ends = np.append(sigmas, 0.0 if final == "zero" else float(table[0])).astype(np.float32).astype(np.float64)
    return [Level(1.0, sigma, t) for sigma, t in zip(ends.tolist(), [*times.tolist(), None], strict=True)]


def _chain(levels: Sequence[Level]) -> tuple[Step, ...]:
    return tuple(Step(now, after) for now, after in pairwise(levels))


def _last(steps: Sequence[Step], n_steps: int, strength: float) -> tuple[Step, ...]:
    """The steps that a strength leaves of all of them, of which trailing spacing may have one more than n_steps."""
    if not 0 <= strength <= 1:
        raise UserError(f"strength is {strength}; choose a number from 0 (the guide itself) to 1 (no guide)")
    run = min(int(n_steps * strength), n_steps)
    return tuple(steps[n_steps - run :]) if run else ()
