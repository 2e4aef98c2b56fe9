"""What the configuration of a published scheduler says beside the schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from latentbrush.diffusion.samplers import Variance
from latentbrush.diffusion.spacing import Spacing
from latentbrush.errors import UserError

__all__ = ["FinalSigma", "PlanConfig"]

FinalSigma = Literal["zero", "sigma_min"]


@dataclass(frozen=True)
class PlanConfig:
    """Options of plans, under diffusers' names. A sampler reads those said to be its own.

    `spacing` (timestep_spacing), `steps_offset` (leading only; 0 or more): all samplers.
    `eta` in [0, 1], `set_alpha_to_one` (end at abar = 1, else at abar_0): ddim.
    `final_sigmas_type` (end at sigma = 0, or at the table's least): euler, dpmpp_2m.
    `solver_order` 1 or 2, `lower_order_final` (first order at the end of fewer than 15 steps),
    `euler_at_final` (first order at the end of any): dpmpp_2m. Steps to sigma = 0 always are of first order.
    `use_karras_sigmas` (Karras et al. 2022's spacing of sigma between the ends): euler, heun, dpmpp_2m.
    `variance_type` of each step's noise: ddpm.
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
    use_karras_sigmas: bool = False
    variance_type: Variance = "fixed_small"

    def __post_init__(self) -> None:
        for name, kinds in (("spacing", Spacing), ("final_sigmas_type", FinalSigma), ("variance_type", Variance)):
            value = getattr(self, name)
            if value not in get_args(kinds):
                raise UserError(f"{name} {value!r} is unknown; choose one of {', '.join(get_args(kinds))}")
        if self.steps_offset < 0:
            raise UserError(f"steps_offset is {self.steps_offset}; choose 0 or more")
        if not 0 <= self.eta <= 1:
            raise UserError(f"eta is {self.eta}; choose a number from 0 (deterministic) to 1 (as DDPM)")
        if self.solver_order not in (1, 2):
            raise UserError(f"solver_order is {self.solver_order}; choose 1 or 2")
