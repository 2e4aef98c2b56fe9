"""scheduler_config.json <-> schedule, prediction, sampler and plan options.

One row of `CLASSES` a diffusers scheduler. Fields that are not stated have that class's defaults; fields of
other classes, which files carry along from earlier schedulers, do nothing there and nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from latentbrush.diffusion import SAMPLERS, PlanConfig, Prediction, Schedule, find_sampler
from latentbrush.errors import UserError
from latentbrush.formats.configs import DIFFUSERS_VERSION
from latentbrush.formats.fields import Fields

__all__ = ["Scheduler", "read_scheduler", "write_scheduler"]


@dataclass(frozen=True)
class Scheduler:
    """What a scheduler's configuration says; `plan_options` are fields of `PlanConfig`."""

    schedule: Schedule
    prediction: Prediction
    sampler: str
    plan_options: Mapping[str, Any]


@dataclass(frozen=True)
class SchedulerClass:
    """A diffusers scheduler: the sampler it is here, the plan options it has (under the same names), and
    the only values supported of what else it has, defaults first.

    `beta_range`: its beta_start and beta_end where a file states none. `zero_snr`: does it know
    rescale_betas_zero_snr? Else that field does nothing. `clips`: does it clip unless told not to?
    """

    sampler: str
    options: tuple[str, ...]
    only: Mapping[str, tuple[Any, ...]]
    beta_range: tuple[float, float] = (0.0001, 0.02)
    zero_snr: bool = True
    clips: bool = False


OTHER_SIGMAS: Mapping[str, tuple[Any, ...]] = {
    "use_exponential_sigmas": (False, None),
    "use_beta_sigmas": (False, None),
}
CLASSES: Mapping[str, SchedulerClass] = {
    "DDIMScheduler": SchedulerClass("ddim", ("set_alpha_to_one",), {"thresholding": (False,)}, clips=True),
    "DDPMScheduler": SchedulerClass("ddpm", ("variance_type",), {"thresholding": (False,)}, clips=True),
    "EulerDiscreteScheduler": SchedulerClass(
        "euler",
        ("final_sigmas_type", "use_karras_sigmas"),
        {**OTHER_SIGMAS, "interpolation_type": ("linear",), "timestep_type": ("discrete",)},
    ),
    "EulerAncestralDiscreteScheduler": SchedulerClass("euler_ancestral", (), {}),
    "HeunDiscreteScheduler": SchedulerClass(
        "heun", ("use_karras_sigmas",), OTHER_SIGMAS, beta_range=(0.00085, 0.012), zero_snr=False
    ),
    "DPMSolverMultistepScheduler": SchedulerClass(
        "dpmpp_2m",
        ("final_sigmas_type", "use_karras_sigmas", "solver_order", "lower_order_final", "euler_at_final"),
        {
            **OTHER_SIGMAS,
            "thresholding": (False,),
            "algorithm_type": ("dpmsolver++",),
            # The class itself reads the latter three, other solvers' names, as the first.
            "solver_type": ("midpoint", "logrho", "bh1", "bh2"),
            "use_lu_lambdas": (False, None),
            "use_flow_sigmas": (False, None),
            "lambda_min_clipped": (-float("inf"),),
            "variance_type": (None,),
            "use_dynamic_shifting": (False,),
        },
    ),
}
READERS: Mapping[str, Callable[[Fields, str], Any]] = {
    "set_alpha_to_one": Fields.flag,
    "final_sigmas_type": Fields.name,
    "solver_order": Fields.whole,
    "lower_order_final": Fields.flag,
    "euler_at_final": Fields.flag,
    "use_karras_sigmas": Fields.flag,
    "variance_type": Fields.name,
}
# These keep their meaning when another sampler is chosen, as diffusers' from_config has it.
SHARED = ("set_alpha_to_one", "final_sigmas_type", "use_karras_sigmas")
# What only these classes' unsupported fields, or classes not here, would ask for. StableDiffusionPipeline
# itself sets clip_sample to false, whatever the file says: latents are not bounded.
IDLE = (
    *("clip_sample", "clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value", "flow_shift"),
    *("time_shift_type", "sigma_min", "sigma_max", "skip_prk_steps", "disable_corrector", "predict_x0"),
    *("solver_p", "original_inference_steps", "timestep_scaling", "use_timestep_scaling"),
)


def read_scheduler(fields: Fields, name: str, sampler: str | None = None) -> Scheduler:
    """Read the configuration of the diffusers class `name`; `sampler` overrides the class.

    `name` is what model_index.json says, which diffusers believes rather than the file's own _class_name.
    With `sampler`, only the betas, the prediction type and those plan options that are stated are read, and what the
    class has beside is not asked for. UserError names what is unknown, wrong or not supported.
    """
    row = CLASSES.get(name)
    if sampler is None:
        if row is None:
            raise UserError(
                f"{fields.path}: scheduler {name} is not supported, only {', '.join(CLASSES)} are; "
                f"choose a sampler (--sampler {'|'.join(SAMPLERS)}) to use its schedule without it"
            )
        _check_supported(fields, row)
        chosen = row.sampler
    else:
        find_sampler(sampler)
        if row is None and not (fields.has("trained_betas") or _has_betas(fields)):
            raise UserError(
                f"{fields.path}: {name} states no beta_start, beta_end and beta_schedule, so its schedule "
                "is unknown here; use a model with a discrete noise schedule"
            )
        chosen = sampler
    # Naming the folder's own sampler must not change its options.
    own = row.options if row is not None and row.sampler == chosen else ()
    betas = (0.0001, 0.02) if row is None else row.beta_range
    # A class that does not know the rescaling ignores it; a chosen sampler does not.
    zero_snr = row is None or sampler is not None or row.zero_snr
    result = _read(fields, chosen, own, betas, zero_snr=zero_snr)
    if sampler is None:
        fields.done()
    return result


def _read(
    fields: Fields, sampler: str, own: tuple[str, ...], betas: tuple[float, float], *, zero_snr: bool
) -> Scheduler:
    """What any class states, and the options of its `own`; a UserError of a value names the file, too."""
    try:
        options = _options(fields, own)
        result = Scheduler(_schedule(fields, betas, zero_snr=zero_snr), _prediction(fields), sampler, options)
        PlanConfig(**options)
    except UserError as error:
        message = str(error)
        raise UserError(message if str(fields.path) in message else f"{fields.path}: {message}") from None
    return result


def _check_supported(fields: Fields, row: SchedulerClass) -> None:
    try:
        for key, allowed in row.only.items():
            fields.only(key, *allowed)
        if "use_karras_sigmas" in row.options and fields.raw("use_karras_sigmas"):
            for key in ("sigma_min", "sigma_max"):  # another range than that of the schedule
                fields.only(key, None)
    except UserError as error:
        names = "|".join(SAMPLERS)
        raise UserError(f"{error}; or choose a sampler (--sampler {names}) to do without it") from None
    for other in CLASSES.values():
        fields.harmless(*other.only, *other.options)
    fields.harmless(*IDLE)


def _has_betas(fields: Fields) -> bool:
    return all(fields.has(key) for key in ("beta_start", "beta_end", "beta_schedule"))


def _options(fields: Fields, own: tuple[str, ...]) -> dict[str, Any]:
    """The plan options that the file states: those that any sampler may have, and its class's `own`."""
    # StableDiffusionPipeline sets steps_offset to 1 whatever the file says, and so every picture ever
    # painted from such a folder has it.
    options: dict[str, Any] = {"steps_offset": 1}
    fields.harmless("steps_offset")
    if fields.has("timestep_spacing"):
        options["spacing"] = fields.name("timestep_spacing")
    for key in (*SHARED, *own):
        if fields.has(key):
            options[key] = READERS[key](fields, key)
    return options


def _schedule(fields: Fields, beta_range: tuple[float, float], *, zero_snr: bool) -> Schedule:
    """`beta_range`: the class's own default; `zero_snr`: does it know the rescaling?"""
    fields.harmless("trained_betas")
    betas = fields.numbers("trained_betas") if fields.has("trained_betas") else None
    return Schedule(
        beta_schedule=cast(Any, fields.name("beta_schedule", "linear")),
        beta_start=fields.number("beta_start", beta_range[0]),
        beta_end=fields.number("beta_end", beta_range[1]),
        num_train_timesteps=fields.whole("num_train_timesteps", 1000),
        rescale_zero_snr=fields.flag("rescale_betas_zero_snr", False) and zero_snr,
        trained_betas=betas,
    )


def _prediction(fields: Fields) -> Prediction:
    fields.only("prediction_type", "epsilon", "v_prediction", "sample")
    return cast(Prediction, fields.name("prediction_type", "epsilon"))


def write_scheduler(scheduler: Scheduler) -> dict[str, Any]:
    """The configuration of the diffusers class that is this sampler.

    eta is not in it: diffusers takes it as an argument only. UserError for a steps_offset that
    StableDiffusionPipeline would not keep, and for a schedule that the class does not know.
    """
    name, row = next((name, row) for name, row in CLASSES.items() if row.sampler == scheduler.sampler)
    schedule = scheduler.schedule
    plan = replace(find_sampler(scheduler.sampler).defaults, **scheduler.plan_options)
    if plan.spacing == "leading" and plan.steps_offset != 1:
        raise UserError(
            f"steps_offset {plan.steps_offset} cannot be saved: StableDiffusionPipeline always takes 1 and "
            "would paint other pictures; set it to 1, or choose another spacing"
        )
    if schedule.rescale_zero_snr and not row.zero_snr:
        raise UserError(
            f"a schedule with rescale_zero_snr cannot be saved for the sampler {row.sampler}: {name} does not know "
            "it and would paint other pictures; choose another sampler"
        )
    return {
        "_class_name": name,
        "_diffusers_version": DIFFUSERS_VERSION,
        "num_train_timesteps": schedule.num_train_timesteps,
        "beta_start": schedule.beta_start,
        "beta_end": schedule.beta_end,
        "beta_schedule": schedule.beta_schedule,
        "trained_betas": None if schedule.trained_betas is None else list(schedule.trained_betas),
        **({"rescale_betas_zero_snr": schedule.rescale_zero_snr} if row.zero_snr else {}),
        "prediction_type": scheduler.prediction,
        "timestep_spacing": plan.spacing,
        "steps_offset": 1,
        **{key: getattr(plan, key) for key in row.options},
        **({"clip_sample": False} if row.clips else {}),
    }
