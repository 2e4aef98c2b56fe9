"""One plan, two networks: the first paints the noisy levels, the second takes over below a time of the schedule.

An ensemble of experts (Balaji et al. 2022, "eDiff-I"), as Stable Diffusion XL's base and refiner are meant (Podell et
al. 2023, section 2.5). Times are cut and rounded as diffusers' denoising_end and denoising_start cut them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from latentbrush.diffusion.denoiser import Denoised
from latentbrush.diffusion.level import Level, Plan, Step
from latentbrush.diffusion.samplers import OnStep
from latentbrush.diffusion.schedule import Schedule
from latentbrush.errors import UserError

__all__ = ["above", "below", "check_handover", "interrupted"]

UNBROKEN = ("plms", "pndm", "dpmpp_2s", "dpmpp_3s")
"""Samplers whose first steps are of another kind, or whose steps come in blocks: none can begin in the middle."""


def above(plan: Plan, schedule: Schedule, share: float) -> Plan:
    """The first steps of a plan, down to where `share` of the schedule's times are done. None where it has no such."""
    first = _cutoff(schedule, share)
    return replace(plan, steps=tuple(step for step in plan.steps if _time(step) >= first))


def below(plan: Plan, schedule: Schedule, share: float) -> Plan:
    """The steps that are left, from where `share` of the schedule's times are done."""
    first = _cutoff(schedule, share)
    return replace(plan, steps=tuple(step for step in plan.steps if _time(step) < first))


def check_handover(sampler: str, first: Plan, second: Plan, steps: int, share: float) -> None:
    """UserError where one of the two has nothing to do, or the sampler must not be interrupted."""
    if sampler in UNBROKEN:
        raise UserError(f"{sampler} cannot be taken over in the middle; choose another sampler, such as euler or ddim")
    for plan, who in ((first, "before it"), (second, "after it")):
        if not plan.steps:
            raise UserError(
                f"a handover at {share:g} of {steps} steps leaves none {who}; choose another share, or more steps"
            )


class _Reached(Exception):  # noqa: N818  # no error: the way out of a sampler
    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = x


def interrupted(run: Callable[[OnStep], Tensor], calls: int, on_step: OnStep) -> Tensor:
    """What a sampler, `run` with an `on_step`, has after so many network calls; `on_step` is called as ever.

    The sampler itself knows nothing of it, so that its last steps are not those of a shorter plan.
    """
    done = 0

    def counted(x: Tensor, level: Level, denoised: Denoised) -> Tensor:
        nonlocal done
        x, done = on_step(x, level, denoised), done + 1
        if done == calls:
            raise _Reached(x)
        return x

    try:
        run(counted)
    except _Reached as reached:
        return reached.x
    raise ValueError(f"the sampler made {done} calls, needed are more than {calls}")


def _cutoff(schedule: Schedule, share: float) -> int:
    T = schedule.num_train_timesteps
    return round(T - share * T)


def _time(step: Step) -> float:
    assert step.at.t is not None
    return float(step.at.t)
