"""diffusers' scheduler classes: the sampler that each is here, and what of its configuration is honoured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CLASSES", "IDLE", "PATHS", "SchedulerClass", "class_of"]

PATHS: Mapping[str, str] = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "exponential",
    "use_beta_sigmas": "beta",
}
"""Flags of configurations -> `PlanConfig.sigmas`."""


@dataclass(frozen=True)
class SchedulerClass:
    """A diffusers scheduler with those settings that make it the sampler `sampler`.

    `when`: these settings, each with the class's default and the values meant; the first is written.
    `options`: the plan options it has, under the same names. `only`: the values supported of what else it has,
    defaults first.
    `beta_range`, `beta_schedule`: its own where a file states none. `zero_snr`, `spaced`, `paths`, `thresholds`:
    does it know rescale_betas_zero_snr; timestep_spacing; the flags of `PATHS`; thresholding? `clips`: does it where
    a file does not say; None for a class that never clips. A field that a class does not know does nothing there.
    """

    name: str
    sampler: str
    options: tuple[str, ...] = ()
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    when: Mapping[str, tuple[Any, tuple[Any, ...]]] = field(default_factory=dict)
    beta_range: tuple[float, float] = (0.0001, 0.02)
    beta_schedule: str = "linear"
    zero_snr: bool = True
    spaced: bool = True
    paths: bool = False
    thresholds: bool = False
    clips: bool | None = None


SD_BETAS = (0.00085, 0.012)
KNOWN_VARIANCES = {"variance_type": (None,)}
UNFLOWING: Mapping[str, tuple[Any, ...]] = {"use_flow_sigmas": (False, None), "use_dynamic_shifting": (False,)}
SOLVER = ("solver_order", "solver_type", "lower_order_final")
# The classes themselves read what stands behind the first as the first; 'deis' is another class's algorithm.
PLUS_PLUS = ("dpmsolver++", ("dpmsolver++", "deis"))
SDE = ("dpmsolver++", ("sde-dpmsolver++",))
THIRD, UP_TO_SECOND = (2, (3,)), (2, (1, 2))

_multistep: dict[str, Any] = {
    "options": (*SOLVER, "final_sigmas_type", "euler_at_final", "lambda_min_clipped"),
    "only": {**UNFLOWING, **KNOWN_VARIANCES, "use_lu_lambdas": (False, None)},
    "paths": True,
    "thresholds": True,
}
_singlestep: dict[str, Any] = {
    "options": (*SOLVER, "final_sigmas_type", "lambda_min_clipped"),
    "only": {**UNFLOWING, **KNOWN_VARIANCES},
    "paths": True,
    "thresholds": True,
    "spaced": False,
    "zero_snr": False,
}
_distilled: dict[str, Any] = {"beta_range": SD_BETAS, "beta_schedule": "scaled_linear", "clips": False}
_exploding: dict[str, Any] = {"beta_range": SD_BETAS, "zero_snr": False, "paths": True}

CLASSES: tuple[SchedulerClass, ...] = (
    SchedulerClass("DDIMScheduler", "ddim", ("set_alpha_to_one",), thresholds=True, clips=True),
    SchedulerClass("DDPMScheduler", "ddpm", ("variance_type",), thresholds=True, clips=True),
    SchedulerClass(
        "PNDMScheduler", "plms", ("set_alpha_to_one",), when={"skip_prk_steps": (False, (True,))}, zero_snr=False
    ),
    SchedulerClass(
        "PNDMScheduler", "pndm", ("set_alpha_to_one",), when={"skip_prk_steps": (False, (False,))}, zero_snr=False
    ),
    SchedulerClass(
        "EulerDiscreteScheduler",
        "euler",
        ("final_sigmas_type",),
        {"interpolation_type": ("linear",), "timestep_type": ("discrete",)},
        paths=True,
    ),
    SchedulerClass("EulerAncestralDiscreteScheduler", "euler_ancestral"),
    SchedulerClass("HeunDiscreteScheduler", "heun", clips=False, **_exploding),
    SchedulerClass("LMSDiscreteScheduler", "lms", zero_snr=False, paths=True),
    SchedulerClass("KDPM2DiscreteScheduler", "dpm2", **_exploding),
    SchedulerClass("KDPM2AncestralDiscreteScheduler", "dpm2_ancestral", **_exploding),
    SchedulerClass("DPMSolverSDEScheduler", "dpmpp_sde", (), {"noise_sampler_seed": (None,)}, **_exploding),
    SchedulerClass(
        "DPMSolverMultistepScheduler",
        "dpmpp_3m",
        when={"algorithm_type": PLUS_PLUS, "solver_order": THIRD},
        **_multistep,
    ),
    SchedulerClass("DPMSolverMultistepScheduler", "dpmpp_2m", when={"algorithm_type": PLUS_PLUS}, **_multistep),
    # Of third order its coefficient of the second derivative has a wrong sign: dpmpp_3m_sde would paint others.
    SchedulerClass(
        "DPMSolverMultistepScheduler",
        "dpmpp_2m_sde",
        when={"algorithm_type": SDE, "solver_order": UP_TO_SECOND},
        **_multistep,
    ),
    SchedulerClass(
        "DPMSolverSinglestepScheduler",
        "dpmpp_3s",
        when={"algorithm_type": PLUS_PLUS, "solver_order": THIRD},
        **_singlestep,
    ),
    SchedulerClass("DPMSolverSinglestepScheduler", "dpmpp_2s", when={"algorithm_type": PLUS_PLUS}, **_singlestep),
    SchedulerClass(
        "UniPCMultistepScheduler",
        "unipc",
        (*SOLVER, "final_sigmas_type"),
        {**UNFLOWING, "predict_x0": (True,), "disable_corrector": ([], None), "solver_p": (None,)},
        paths=True,
        thresholds=True,
    ),
    SchedulerClass(
        "DEISMultistepScheduler",
        "deis",
        SOLVER,
        {**UNFLOWING, "algorithm_type": ("deis", "dpmsolver", "dpmsolver++")},
        zero_snr=False,
        paths=True,
        thresholds=True,
    ),
    SchedulerClass(
        "LCMScheduler", "lcm", ("original_inference_steps", "timestep_scaling"), thresholds=True, **_distilled
    ),
    SchedulerClass("TCDScheduler", "tcd", ("original_inference_steps",), **_distilled),
)

# What only these classes' unsupported fields, or classes not here, would ask for; and of clipping what some pipelines
# set to false, whatever the file says.
IDLE = (
    *("clip_sample", "clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value", "flow_shift"),
    *("time_shift_type", "sigma_min", "sigma_max", "shift_terminal", "use_timestep_scaling", "thresholding"),
    *("algorithm_type", "skip_prk_steps", *PATHS),
)


def class_of(sampler: str) -> SchedulerClass | None:
    """The class that is this sampler; None where diffusers has none."""
    return next((row for row in CLASSES if row.sampler == sampler), None)
