"""The samplers that users choose by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from latentbrush.diffusion.level import Plan
from latentbrush.diffusion.plan_config import PlanConfig
from latentbrush.diffusion.plans import discrete, exploding, preserving
from latentbrush.diffusion.samplers import (
    ddim,
    ddpm,
    deis,
    dpm2,
    dpmpp_2s_ancestral,
    dpmpp_multistep,
    dpmpp_sde,
    dpmpp_singlestep,
    heun,
    lcm,
    lms,
    plms,
    pndm,
    tcd,
    unipc,
)
from latentbrush.diffusion.schedule import Schedule
from latentbrush.errors import UserError

__all__ = ["SAMPLERS", "Sampler", "find_sampler", "make_plan"]


@dataclass(frozen=True)
class Sampler:
    """A sampler: `run(denoise, x, steps, noise, on_step, **options)` (the package `samplers`), the builder of its
    plan, and the configuration of its published scheduler. `draws`: does it add noise on its way? `paths`: does it
    go along the sigmas of `PlanConfig.sigmas`? `eta`: does it read `PlanConfig.eta`?"""

    run: Callable[..., Tensor]
    plan: Callable[[Schedule, int, PlanConfig, float], Plan]
    defaults: PlanConfig
    draws: bool = False
    paths: bool = True
    eta: bool = False


LINSPACE = PlanConfig(spacing="linspace")
SAMPLERS: dict[str, Sampler] = {
    "ddim": Sampler(ddim, discrete.ddim_plan, PlanConfig(), paths=False, eta=True),  # draws where it is above 0
    "euler": Sampler(ddim, exploding.euler_plan, LINSPACE),  # Euler is DDIM at alpha = 1
    "dpmpp_2m": Sampler(dpmpp_multistep, preserving.dpmpp_2m_plan, LINSPACE),
    "heun": Sampler(heun, exploding.heun_plan, LINSPACE),
    "euler_ancestral": Sampler(ddim, exploding.euler_ancestral_plan, LINSPACE, draws=True),
    "ddpm": Sampler(ddpm, discrete.ddpm_plan, PlanConfig(), draws=True, paths=False),
    "plms": Sampler(plms, discrete.plms_plan, PlanConfig(set_alpha_to_one=False), paths=False),
    "pndm": Sampler(pndm, discrete.pndm_plan, PlanConfig(set_alpha_to_one=False), paths=False),
    "lms": Sampler(lms, exploding.lms_plan, LINSPACE),
    "dpm2": Sampler(dpm2, exploding.dpm2_plan, LINSPACE),
    "dpm2_ancestral": Sampler(dpm2, exploding.dpm2_ancestral_plan, LINSPACE, draws=True),
    "dpmpp_2s_ancestral": Sampler(dpmpp_2s_ancestral, exploding.dpmpp_2s_ancestral_plan, LINSPACE, draws=True),
    "dpmpp_sde": Sampler(dpmpp_sde, exploding.dpmpp_sde_plan, LINSPACE, draws=True),
    "dpmpp_2m_sde": Sampler(dpmpp_multistep, preserving.dpmpp_2m_sde_plan, LINSPACE, draws=True),
    "dpmpp_3m_sde": Sampler(
        dpmpp_multistep, preserving.dpmpp_3m_sde_plan, PlanConfig(spacing="linspace", solver_order=3), draws=True
    ),
    "dpmpp_3m": Sampler(dpmpp_multistep, preserving.dpmpp_2m_plan, PlanConfig(spacing="linspace", solver_order=3)),
    "dpmpp_2s": Sampler(
        dpmpp_singlestep, preserving.dpmpp_2s_plan, PlanConfig(spacing="linspace", lower_order_final=False)
    ),
    "dpmpp_3s": Sampler(
        dpmpp_singlestep,
        preserving.dpmpp_2s_plan,
        PlanConfig(spacing="linspace", solver_order=3, lower_order_final=False),
    ),
    "unipc": Sampler(unipc, preserving.unipc_plan, PlanConfig(spacing="linspace", solver_type="bh2")),
    "deis": Sampler(deis, preserving.deis_plan, PlanConfig(spacing="linspace", solver_type="logrho")),
    "lcm": Sampler(lcm, discrete.lcm_plan, PlanConfig(), draws=True, paths=False),
    "tcd": Sampler(tcd, discrete.tcd_plan, PlanConfig(eta=0.3), draws=True, paths=False, eta=True),
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
    config = sampler.defaults if config is None else config
    if config.eta and not sampler.eta:
        instead = "draws as it must" if sampler.draws else "is deterministic"
        raise UserError(f"eta is {config.eta}, but {name} {instead}; set eta to 0, or choose ddim")
    return sampler.plan(schedule, n_steps, config, strength)
