"""What the configuration of a published scheduler says beside the schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from latentbrush.diffusion.samplers import Variance
from latentbrush.diffusion.sigmas import SigmaPath
from latentbrush.diffusion.spacing import Spacing
from latentbrush.errors import UserError

__all__ = ["FinalSigma", "PlanConfig", "Solver"]

FinalSigma = Literal["zero", "sigma_min"]
Solver = Literal["midpoint", "heun", "logrho", "bh1", "bh2"]
"""Of DPM-Solver++ the first two, of DEIS the third, of UniPC the last two; a solver takes another's name as its own
default, as diffusers does."""

KINDS = {
    "spacing": Spacing,
    "sigmas": SigmaPath,
    "final_sigmas_type": FinalSigma,
    "variance_type": Variance,
    "solver_type": Solver,
}


@dataclass(frozen=True)
class PlanConfig:
    """Options of plans, under diffusers' names. A sampler reads those said to be its own.

    `spacing` (timestep_spacing), `steps_offset` (leading only; 0 or more): all samplers, but that lcm and tcd take
    every k-th time of `original_inference_steps`, and singlestep DPM-Solver++ is always spaced linspace.
    `sigmas`: 'spaced' takes them at those times; others are the paths of `sigma_path`, for all samplers but
    ddim, ddpm, plms, pndm, lcm and tcd.
    `eta` in [0, 1]: ddim (0 deterministic, 1 as DDPM), tcd (the paper's gamma).
    `set_alpha_to_one` (end at abar = 1, else at abar_0): ddim, plms, pndm.
    `final_sigmas_type` (end at sigma = 0, or at the table's least): euler, DPM-Solver++, unipc.
    `solver_order` 1 to 3, `solver_type`: DPM-Solver++, unipc, deis.
    `lower_order_final` (lower orders at the end; of multistep DPM-Solver++ and deis only in fewer than 15 steps),
    `euler_at_final` (first order at the end of any): DPM-Solver++, unipc, deis; multistep DPM-Solver++. Steps to
    sigma = 0 always are of first order.
    `lambda_min_clipped`: leave out what is noisier than this log(alpha / sigma): DPM-Solver++.
    `variance_type` of each step's noise: ddpm.
    `original_inference_steps` (1 or more), `timestep_scaling` (positive): lcm, tcd the first alone.
    Raises `UserError` for values outside these.
    """

    spacing: Spacing = "leading"
    steps_offset: int = 0
    sigmas: SigmaPath = "spaced"
    eta: float = 0.0
    set_alpha_to_one: bool = True
    final_sigmas_type: FinalSigma = "zero"
    solver_order: int = 2
    solver_type: Solver = "midpoint"
    lower_order_final: bool = True
    euler_at_final: bool = False
    lambda_min_clipped: float = -math.inf
    variance_type: Variance = "fixed_small"
    original_inference_steps: int = 50
    timestep_scaling: float = 10.0

    def __post_init__(self) -> None:
        for name, kinds in KINDS.items():
            value = getattr(self, name)
            if value not in get_args(kinds):
                raise UserError(f"{name} {value!r} is unknown; choose one of {', '.join(get_args(kinds))}")
        if self.steps_offset < 0:
            raise UserError(f"steps_offset is {self.steps_offset}; choose 0 or more")
        if not 0 <= self.eta <= 1:
            raise UserError(f"eta is {self.eta}; choose a number from 0 (deterministic) to 1 (as DDPM)")
        if self.solver_order not in (1, 2, 3):
            raise UserError(f"solver_order is {self.solver_order}; choose 1, 2 or 3")
        if math.isnan(self.lambda_min_clipped):
            raise UserError("lambda_min_clipped is not a number; choose one such as -5.1")
        if self.original_inference_steps < 1:
            raise UserError(f"original_inference_steps is {self.original_inference_steps}; choose 1 or more")
        if not 0 < self.timestep_scaling < math.inf:
            raise UserError(f"timestep_scaling is {self.timestep_scaling}; choose a positive number")
