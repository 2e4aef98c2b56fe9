"""Plans: the levels that a named, published scheduler visits in a number of steps.

Each builder takes the whole schedule and returns the whole plan, so that what depends on the number of
steps (the scale of the first x, the order of the last step) is decided in one place. The published
schedulers are diffusers'; where they differ in rounding, so do these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from latentbrush.diffusion.level import Level, Plan, Step
from latentbrush.diffusion.samplers import ddim, dpmpp_2m
from latentbrush.diffusion.schedule import Schedule
from latentbrush.diffusion.spacing import Spacing, leading, linspace, trailing
from latentbrush.errors import UserError

__all__ = [
    "SAMPLERS",
    "FinalSigma",
    "PlanConfig",
    "Sampler",
    "ddim_plan",
    "dpmpp_2m_plan",
    "euler_plan",
    "find_sampler",
    "make_plan",
]

FinalSigma = Literal["zero", "sigma_min"]


@dataclass(frozen=True)
class PlanConfig:
    """What a scheduler's configuration says beside the schedule, under diffusers' names.

    `spacing` (timestep_spacing), `steps_offset` (leading only; 0 or more): all samplers.
    `eta` in [0, 1], `set_alpha_to_one` (end at abar = 1, else at abar_0): ddim.
    `final_sigmas_type` (end at sigma = 0, or at the table's least): euler, dpmpp_2m.
    `solver_order` 1 or 2, `lower_order_final` (first order at the end of fewer than 15 steps),
    `euler_at_final` (first order at the end of any): dpmpp_2m. Steps to sigma = 0 always are of first order.
    Raises `UserError` for values outside these.
    """

    spacing: Spacing = "leading"
    steps_offset: int = 0
    eta: float = 0.0
    set_alpha_to_one: bool = True
    final_sigmas_type: FinalSigma = "zero"
    solver_order: int = 2
    lower_order_final: bool = True
    euler_at_final: bool = False

    def __post_init__(self) -> None:
        if self.spacing not in get_args(Spacing):
            names = ", ".join(get_args(Spacing))
            raise UserError(f"spacing {self.spacing!r} is unknown; choose one of {names}")
        if self.final_sigmas_type not in get_args(FinalSigma):
            names = ", ".join(get_args(FinalSigma))
            raise UserError(f"final_sigmas_type {self.final_sigmas_type!r} is unknown; choose one of {names}")
        if self.steps_offset < 0:
            raise UserError(f"steps_offset is {self.steps_offset}; choose 0 or more")
        if not 0 <= self.eta <= 1:
            raise UserError(f"eta is {self.eta}; choose a number from 0 (deterministic) to 1 (as DDPM)")
        if self.solver_order not in (1, 2):
            raise UserError(f"solver_order is {self.solver_order}; choose 1 or 2")


def ddim_plan(schedule: Schedule, n_steps: int, config: PlanConfig) -> Plan:
    """DDIMScheduler's plan: levels straight from the table, each step down by T // n_steps.

    An abar_T of zero stays zero. Where trailing spacing yields a further entry t = -1, it is left out: x is
    finished by then, and diffusers, reading abar[-1], would treat it as pure noise.
    """
    T = schedule.num_train_timesteps
    _require_steps(n_steps, T)
    ratio = T // n_steps
    times = {
        "leading": lambda: leading(n_steps, ratio, config.steps_offset),
        "trailing": lambda: trailing(T, n_steps),
        "linspace": lambda: linspace(T, n_steps).round(),
    }[config.spacing]()
    times = times[times >= 0]
    if times[0] >= T:
        raise UserError(
            f"{n_steps} steps with steps_offset {config.steps_offset} start at time {times[0]:.0f}, "
            f"the schedule ends at {T - 1}; choose fewer steps or a smaller steps_offset"
        )
    abar: list[float] = schedule.alphas_cumprod.tolist()
    final = 1.0 if config.set_alpha_to_one else abar[0]
    steps = []
    for i, t in enumerate(int(t) for t in times):
        after = t - ratio
        told = float(after) if after >= 0 and i + 1 < len(times) else None
        steps.append(Step(_preserving(abar[t], float(t)), _preserving(abar[after] if after >= 0 else final, told)))
    return Plan(tuple(steps), start_scale=1.0, options={"eta": config.eta})


def euler_plan(schedule: Schedule, n_steps: int, config: PlanConfig) -> Plan:
    """EulerDiscreteScheduler's plan: alpha = 1, sigmas interpolated at (for linspace) fractional times.

    It starts at the highest sigma (linspace, trailing) or at sqrt(sigma^2 + 1) (leading).
    """
    _refuse_eta("euler", config)
    T = schedule.num_train_timesteps
    _require_steps(n_steps, T)
    times = {
        "leading": lambda: leading(n_steps, T // n_steps, config.steps_offset),
        "trailing": lambda: trailing(T, n_steps),
        "linspace": lambda: linspace(T, n_steps).astype(np.float32).astype(np.float64),
    }[config.spacing]()
    sigmas = _sigmas(schedule, times, config.final_sigmas_type)
    levels = [Level(1.0, sigma, t) for sigma, t in zip(sigmas, [*times.tolist(), None], strict=True)]
    highest = max(sigmas)
    scale = float((highest**2 + 1) ** 0.5) if config.spacing == "leading" else highest
    return Plan(_chain(levels), start_scale=scale, options={"eta": 0.0})


def dpmpp_2m_plan(schedule: Schedule, n_steps: int, config: PlanConfig) -> Plan:
    """DPMSolverMultistepScheduler's plan ('dpmsolver++', 'midpoint'): n_steps + 1 points, the last left out.

    Sigmas are read off as for Euler, then turned into variance-preserving levels.
    """
    _refuse_eta("dpmpp_2m", config)
    T = schedule.num_train_timesteps
    _require_steps(n_steps, T)
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
    sigmas = _sigmas(schedule, times, config.final_sigmas_type)
    levels = []
    for sigma, t in zip(sigmas, [*times.tolist(), None], strict=True):
        alpha = 1.0 / float((sigma**2 + 1) ** 0.5)
        levels.append(Level(alpha, sigma * alpha, t))
    euler_last = (
        config.final_sigmas_type == "zero" or config.euler_at_final or (config.lower_order_final and len(times) < 15)
    )
    return Plan(_chain(levels), start_scale=1.0, options={"order": config.solver_order, "euler_last": euler_last})


@dataclass(frozen=True)
class Sampler:
    """A sampler that users choose by name: `run(denoise, x, steps, noise, on_step, **options)` (the module
    `samplers`), the builder of its plan, and the configuration of its published scheduler."""

    run: Callable[..., Tensor]
    plan: Callable[[Schedule, int, PlanConfig], Plan]
    defaults: PlanConfig


SAMPLERS: dict[str, Sampler] = {
    "ddim": Sampler(ddim, ddim_plan, PlanConfig(spacing="leading")),
    "euler": Sampler(ddim, euler_plan, PlanConfig(spacing="linspace")),  # Euler is DDIM at alpha = 1
    "dpmpp_2m": Sampler(dpmpp_2m, dpmpp_2m_plan, PlanConfig(spacing="linspace")),
}


def find_sampler(name: str) -> Sampler:
    """The sampler of that name, or `UserError` with the names there are."""
    if name not in SAMPLERS:
        raise UserError(f"sampler {name!r} is unknown; choose one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


def make_plan(name: str, schedule: Schedule, n_steps: int, config: PlanConfig | None = None) -> Plan:
    """The plan of the sampler `name` for `n_steps` in 1 .. T, with its own defaults where `config` is None.

    Raises `UserError` for an unknown name, a number of steps outside the range, or an eta above 0 for a
    sampler without it.
    """
    sampler = find_sampler(name)
    return sampler.plan(schedule, n_steps, sampler.defaults if config is None else config)


def _require_steps(n_steps: int, most: int) -> None:
    if not 1 <= n_steps <= most:
        raise UserError(f"{n_steps} steps are asked for; choose 1 to {most}, the steps the model was trained with")


def _refuse_eta(name: str, config: PlanConfig) -> None:
    if config.eta:
        raise UserError(f"eta is {config.eta}, but {name} is deterministic; set eta to 0 or choose ddim")


def _preserving(abar: float, t: float | None) -> Level:
    return Level(abar**0.5, (1.0 - abar) ** 0.5, t)


def _sigmas(schedule: Schedule, times: NDArray[np.float64], final: FinalSigma) -> list[float]:
    """sqrt((1 - abar) / abar) at `times`, between table entries by linear interpolation, then the last one.

    Computed and rounded in float32, as published. Beyond the table's ends the end's value holds.
    """
    abar = schedule.alphas_cumprod.float()
    if schedule.rescale_zero_snr:
        abar[-1] = 2**-24  # float16's least number: sigma is 4096 there instead of infinite
    table = (((1 - abar) / abar) ** 0.5).numpy()
    last = 0.0 if final == "zero" else float(table[0])
    sigmas = np.append(np.interp(times, np.arange(len(table)), table), last)
    result: list[float] = sigmas.astype(np.float32).astype(np.float64).tolist()
    return result


def _chain(levels: list[Level]) -> tuple[Step, ...]:
    return tuple(Step(now, after) for now, after in pairwise(levels))
