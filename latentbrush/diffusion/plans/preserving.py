"""Variance-preserving plans of the solvers in log(alpha / sigma): DPM-Solver++, UniPC and DEIS.

Sigmas are read off as for Euler, then turned into variance-preserving levels. Paths reach over the whole
table, whatever the spacing, and diffusers' at whole times: Karras's rounded, the others cut off.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from latentbrush.diffusion.level import Level, Plan, Step
from latentbrush.diffusion.plan_config import FinalSigma, PlanConfig
from latentbrush.diffusion.plans.parts import chain, last_steps, require_steps, with_end
from latentbrush.diffusion.schedule import Schedule
from latentbrush.diffusion.sigmas import sigma_path, sigma_table, sigmas_at, times_of
from latentbrush.diffusion.spacing import leading, linspace, trailing
from latentbrush.errors import UserError

__all__ = ["deis_plan", "dpmpp_2m_plan", "dpmpp_2m_sde_plan", "dpmpp_2s_plan", "dpmpp_3m_sde_plan", "unipc_plan"]

FEW = 15
"""In fewer steps than these, published multistep solvers lower their order at the end."""


def dpmpp_2m_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """DPMSolverMultistepScheduler's plan ('dpmsolver++'): n_steps + 1 points, the last left out.

    The times of Karras's sigmas are cut off, too, for the cosine schedule.
    """
    return _multistep("dpmpp_2m", schedule, n_steps, config, strength, eta=0.0)


def dpmpp_2m_sde_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """DPMSolverMultistepScheduler's plan ('sde-dpmsolver++'), up to order 2."""
    if config.solver_order == 3:
        raise UserError("solver_order is 3, but dpmpp_2m_sde is of order 1 or 2; choose dpmpp_3m_sde")
    return _multistep("dpmpp_2m_sde", schedule, n_steps, config, strength, eta=1.0)


def dpmpp_3m_sde_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """The plan of 2M SDE for k-diffusion's third-order sampler: its second step is integrated
    exactly, and its order is lowered only before sigma = 0."""
    config = replace(config, solver_type="heun", lower_order_final=False)
    return _multistep("dpmpp_3m_sde", schedule, n_steps, config, strength, eta=1.0)


def dpmpp_2s_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """DPMSolverSinglestepScheduler's plan ('dpmsolver++'), always spaced linspace.

    Blocks of as many steps as the order, each step of a block beginning where the block does; fewer at the
    end, so that a step to sigma = 0 is alone. A block that a strength cuts begins where x does.
    """
    T, table = schedule.num_train_timesteps, sigma_table(schedule)
    require_steps(n_steps, T)
    last = T - _clipped(table, config.lambda_min_clipped)
    config = replace(config, spacing="linspace")
    sigmas, times = _sigmas("dpmpp_2s", schedule, last, n_steps, config, table, floor_karras=False)
    plain = last_steps(chain(_preserving(sigmas, times, table, config.final_sigmas_type)), n_steps, strength)
    orders = _block_orders(n_steps, config)[n_steps - len(plain) :]
    steps: list[Step] = []
    for step, order in zip(plain, orders, strict=True):
        start = step.now if order == 1 or not steps else steps[-1].now
        steps.append(Step(start, step.next, step.now))
    solver = "heun" if config.solver_type == "heun" else "midpoint"
    return Plan(tuple(steps), start_scale=1.0, options={"solver_type": solver})


def unipc_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """UniPCMultistepScheduler's plan: that of multistep DPM-Solver++, but 'sigma_min' is the path's own least.

    A further entry t = -1 of trailing spacing is left out, for no difference is taken at one level.
    """
    T, table = schedule.num_train_timesteps, sigma_table(schedule)
    require_steps(n_steps, T)
    sigmas, times = _sigmas("unipc", schedule, T, n_steps, config, table, floor_karras=False)
    kept = times >= 0
    levels = _preserving(sigmas[kept], times[kept], table, config.final_sigmas_type)
    if config.sigmas != "spaced" and config.final_sigmas_type == "sigma_min":
        levels[-1] = replace(levels[-2], t=None)
    options = {
        "order": config.solver_order,
        "variant": config.solver_type if config.solver_type in ("bh1", "bh2") else "bh2",
        "lower_order_final": config.lower_order_final,
    }
    return Plan(last_steps(chain(levels), n_steps, strength), start_scale=1.0, options=options)


def deis_plan(schedule: Schedule, n_steps: int, config: PlanConfig, strength: float = 1.0) -> Plan:
    """DEISMultistepScheduler's plan: UniPC's, always to the least sigma, of which log(rho) has a value."""
    plan = unipc_plan(schedule, n_steps, replace(config, final_sigmas_type="sigma_min"), strength)
    lower = config.lower_order_final and n_steps < FEW
    return replace(plan, options={"order": config.solver_order, "lower_order_final": lower})


def _multistep(name: str, schedule: Schedule, n_steps: int, config: PlanConfig, strength: float, *, eta: float) -> Plan:
    T, table = schedule.num_train_timesteps, sigma_table(schedule)
    require_steps(n_steps, T)
    last = T - _clipped(table, config.lambda_min_clipped)
    sigmas, times = _sigmas(name, schedule, last, n_steps, config, table, floor_karras=schedule.is_cosine)
    levels = _preserving(sigmas, times, table, config.final_sigmas_type)
    few = config.lower_order_final and len(times) < FEW
    options = {
        "order": config.solver_order,
        "euler_last": config.final_sigmas_type == "zero" or config.euler_at_final or few,
        "lower_order_final": few,
        "solver_type": "heun" if config.solver_type == "heun" else "midpoint",
        "eta": eta,
    }
    return Plan(last_steps(chain(levels), n_steps, strength), start_scale=1.0, options=options)


def _sigmas(
    name: str,
    schedule: Schedule,
    last: int,
    n_steps: int,
    config: PlanConfig,
    table: NDArray[np.float32],
    *,
    floor_karras: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sigmas and their times. `last`: one more than the highest time of the spacing."""
    if config.sigmas != "spaced":
        sigmas = sigma_path(config.sigmas, float(table[-1]), float(table[0]), n_steps, table)
        times = times_of(sigmas, table)
        if config.sigmas == "karras" and not floor_karras:
            times = times.round()
        elif config.sigmas in ("karras", "exponential", "beta"):
            times = np.floor(times)
        return sigmas, times
    times = {
        "leading": lambda: leading(n_steps, last // (n_steps + 1), config.steps_offset, first=1),
        "trailing": lambda: trailing(schedule.num_train_timesteps, n_steps, last),
        "linspace": lambda: linspace(last, n_steps + 1).round()[:-1],
    }[config.spacing]()
    if len(set(times.tolist())) < len(times):
        raise UserError(
            f"{n_steps} steps visit a time of the schedule twice; "
            f"choose at most {last - 1} for {name} with {config.spacing} spacing"
        )
    return sigmas_at(times, table), times


def _clipped(table: NDArray[np.float32], least: float) -> int:
    """How many of the noisiest entries have a log(alpha / sigma) below `least`."""
    return int((-np.log(table.astype(np.float64)) < least).sum())


def _preserving(
    sigmas: NDArray[np.float64], times: NDArray[np.float64], table: NDArray[np.float32], final: FinalSigma
) -> list[Level]:
    levels = []
    for level in with_end(sigmas, times, table, final):
        _, sigma = level.floats()
        alpha = 1.0 / float((sigma**2 + 1) ** 0.5)
        levels.append(Level(alpha, sigma * alpha, level.t))
    return levels


def _block_orders(n_steps: int, config: PlanConfig) -> list[int]:
    """The order of each step, 1 where a block begins. Whole blocks alone need a number of steps that the order
    divides, and a last sigma above 0; else, as with lower_order_final, the last blocks are shorter."""
    order, zero = config.solver_order, config.final_sigmas_type == "zero"
    whole, rest = divmod(n_steps, order)
    block = list(range(1, order + 1))
    if order == 1 or (rest == 0 and not zero and not config.lower_order_final):
        return block * whole
    if rest == 0:
        end = [1, 1] if order == 2 else [1, 2, 1]
        orders = block * (whole - 1) + end
    else:
        orders = block * whole + list(range(1, rest + 1))
    return [*orders[:-1], 1] if zero else orders
