"""scheduler_config.json <-> schedule, prediction, sampler and plan options.

The rows of `scheduler_classes` say which sampler a diffusers scheduler is here. Fields that are not stated have that
class's defaults; fields of other classes, which files carry along from earlier schedulers, do nothing there and
nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from latentbrush.diffusion import SAMPLERS, Limits, PlanConfig, Prediction, Schedule, Threshold, find_sampler
from latentbrush.errors import UserError
from latentbrush.formats.configs import DIFFUSERS_VERSION
from latentbrush.formats.fields import Fields
from latentbrush.formats.scheduler_classes import CLASSES, IDLE, PATHS, SchedulerClass, class_of

__all__ = ["Scheduler", "SchedulerError", "read_scheduler", "write_scheduler"]


class SchedulerError(UserError):
    """What a chosen sampler would do without; `what` says what that is."""

    def __init__(self, what: str, do: str = "to do without it", *, other: bool = False) -> None:
        """`do`: what the sampler is chosen for; `other`: does `what` say another remedy before?"""
        self.what = what
        remedy = f"choose a sampler (--sampler {'|'.join(SAMPLERS)}) {do}"
        super().__init__(f"{what}; {'or ' if other else ''}{remedy}")


@dataclass(frozen=True)
class Scheduler:
    """What a scheduler's configuration says; `plan_options` are fields of `PlanConfig`. `clip`: how far from 0 x0 may
    be at most; None for pipelines that never clip, whatever the file says. `limits`: the same two of each sampler."""

    schedule: Schedule
    prediction: Prediction
    sampler: str
    plan_options: Mapping[str, Any]
    threshold: Threshold | None = None
    clip: float | None = None
    limits: Callable[[str], Limits] | None = None


def _lambda_min(fields: Fields, key: str) -> float:
    return -math.inf if fields.raw(key) == -math.inf else fields.number(key)


READERS: Mapping[str, Callable[[Fields, str], Any]] = {
    "set_alpha_to_one": Fields.flag,
    "final_sigmas_type": Fields.name,
    "solver_order": Fields.whole,
    "solver_type": Fields.name,
    "lower_order_final": Fields.flag,
    "euler_at_final": Fields.flag,
    "lambda_min_clipped": _lambda_min,
    "variance_type": Fields.name,
    "original_inference_steps": Fields.whole,
    "timestep_scaling": Fields.number,
}
# These keep their meaning when another sampler is chosen, as diffusers' from_config has it.
SHARED = ("set_alpha_to_one", "final_sigmas_type")


def read_scheduler(fields: Fields, name: str, sampler: str | None = None, *, clips: bool = False) -> Scheduler:
    """Read the configuration of the diffusers class `name`; `sampler` overrides the class.

    `name` is what model_index.json says, which diffusers believes rather than the file's own _class_name.
    With `sampler`, only the betas, the prediction type and those plan options that are stated are read, and what the
    class has beside is not asked for. `clips`: is it honoured that x0 is to be clipped? UserError names what is
    unknown, wrong or not supported.
    """
    rows = [row for row in CLASSES if row.name == name]
    if sampler is None:
        if not rows:
            known = ", ".join(dict.fromkeys(row.name for row in CLASSES))
            what = f"{fields.path}: scheduler {name} is not supported, only {known} are"
            raise SchedulerError(what, "to use its schedule without it")
        row = _row_of(fields, rows)
        _check_supported(fields, row)
        result = _read(fields, row.sampler, row, row.options, clips=clips)
        fields.done()
        return result
    find_sampler(sampler)
    if not rows and not (fields.has("trained_betas") or _has_betas(fields)):
        raise UserError(
            f"{fields.path}: {name} states no beta_start, beta_end and beta_schedule, so its schedule "
            "is unknown here; use a model with a discrete noise schedule"
        )
    # Naming the folder's own sampler must not change its options.
    own = next((row for row in rows if row.sampler == sampler), None)
    if own is not None:
        return _read(fields, sampler, own, own.options, clips=clips)
    return _read(fields, sampler, rows[0] if rows else None, (), clips=clips)


def _row_of(fields: Fields, rows: list[SchedulerClass]) -> SchedulerClass:
    """The row whose settings the file has."""
    wrong = ""
    for row in rows:
        found = {key: fields.raw(key, default) for key, (default, _) in row.when.items()}
        other = [key for key, (_, meant) in row.when.items() if found[key] not in meant]
        if not other:
            return row
        wrong = f"{other[-1]} {found[other[-1]]!r}"
        wrong += "".join(f" with {key} {value!r}" for key, value in found.items() if key != other[-1])
    raise SchedulerError(f"{fields.path}: {wrong} is not supported for {rows[0].name}")


def _read(fields: Fields, sampler: str, row: SchedulerClass | None, own: tuple[str, ...], *, clips: bool) -> Scheduler:
    """What any class states, and the options of its `own`; a UserError of a value names the file, too."""
    try:
        as_class = row is not None and row.sampler == sampler
        options = _options(fields, sampler, row if as_class else None, own)
        # A class that does not know the rescaling ignores it; a chosen sampler does not.
        zero_snr = row is None or not as_class or row.zero_snr
        schedule = _schedule(fields, row, zero_snr=zero_snr)
        every = partial(_limits, fields, [other for other in CLASSES if row and other.name == row.name], clips)
        result = Scheduler(schedule, _prediction(fields), sampler, options, *every(sampler), every)
        PlanConfig(**options)
    except UserError as error:
        message = str(error)
        raise UserError(message if str(fields.path) in message else f"{fields.path}: {message}") from None
    return result


def _check_supported(fields: Fields, row: SchedulerClass) -> None:
    try:
        for key, allowed in row.only.items():
            fields.only(key, *allowed)
        flags = [key for key in PATHS if row.paths and fields.raw(key)]
        if len(flags) > 1:
            raise UserError(f"{fields.path}: {flags[0]} and {flags[1]} exclude each other; keep one")
        if flags:
            for key in ("sigma_min", "sigma_max"):  # another range than that of the schedule
                fields.only(key, None)
    except UserError as error:
        raise SchedulerError(str(error), other=True) from None
    for other in CLASSES:
        fields.harmless(*other.only, *other.options, *other.when)
    fields.harmless(*IDLE)


def _has_betas(fields: Fields) -> bool:
    return all(fields.has(key) for key in ("beta_start", "beta_end", "beta_schedule"))


def _options(fields: Fields, sampler: str, row: SchedulerClass | None, own: tuple[str, ...]) -> dict[str, Any]:
    """The plan options that the file states: those that any sampler may have, and its class's `own`."""
    # StableDiffusionPipeline sets steps_offset to 1 whatever the file says, and so every picture ever
    # painted from such a folder has it.
    options: dict[str, Any] = {"steps_offset": 1}
    fields.harmless("steps_offset", "timestep_spacing")
    if fields.has("timestep_spacing") and (row is None or row.spaced):
        options["spacing"] = fields.name("timestep_spacing")
    for key in dict.fromkeys((*SHARED, *own)):
        if fields.has(key):
            options[key] = READERS[key](fields, key)
    if SAMPLERS[sampler].paths and (row is None or row.paths):
        for flag, path in PATHS.items():
            if fields.has(flag) and fields.flag(flag):
                options["sigmas"] = path
    return options


def _schedule(fields: Fields, row: SchedulerClass | None, *, zero_snr: bool) -> Schedule:
    """`zero_snr`: does the class know the rescaling?"""
    fields.harmless("trained_betas")
    betas = fields.numbers("trained_betas") if fields.has("trained_betas") else None
    start, end = (0.0001, 0.02) if row is None else row.beta_range
    return Schedule(
        beta_schedule=cast(Any, fields.name("beta_schedule", "linear" if row is None else row.beta_schedule)),
        beta_start=fields.number("beta_start", start),
        beta_end=fields.number("beta_end", end),
        num_train_timesteps=fields.whole("num_train_timesteps", 1000),
        rescale_zero_snr=fields.flag("rescale_betas_zero_snr", False) and zero_snr,
        trained_betas=betas,
    )


def _prediction(fields: Fields) -> Prediction:
    fields.only("prediction_type", "epsilon", "v_prediction", "sample")
    return cast(Prediction, fields.name("prediction_type", "epsilon"))


def _limits(fields: Fields, rows: list[SchedulerClass], clips: bool, sampler: str) -> Limits:
    """Of a sampler that the file, of the class in `rows`, is read for."""
    row = next((row for row in rows if row.sampler == sampler), rows[0] if rows else None)
    threshold, as_class = _threshold(fields, sampler), row is not None and row.sampler == sampler
    return Limits(threshold, _clip(fields, sampler, row, as_class=as_class) if clips and threshold is None else None)


def _threshold(fields: Fields, sampler: str) -> Threshold | None:
    """Dynamic thresholding, where the class of the sampler knows it."""
    known = class_of(sampler)
    if known is None or not known.thresholds or not fields.has("thresholding") or not fields.flag("thresholding"):
        return None
    return Threshold(fields.number("dynamic_thresholding_ratio", 0.995), fields.number("sample_max_value", 1.0))


def _clip(fields: Fields, sampler: str, row: SchedulerClass | None, *, as_class: bool) -> float | None:
    """How far from 0, where the file's class (`row`) clips, and that of the sampler can.

    As that class a file has its default; a chosen sampler clips only what the file says is to be clipped.
    """
    known = class_of(sampler)
    if row is None or row.clips is None or known is None or known.clips is None:
        return None
    default = as_class and row.clips
    # null is as good as false
    if fields.raw("clip_sample", default) is None or not fields.flag("clip_sample", default):
        return None
    clip = fields.number("clip_sample_range", 1.0)
    if clip <= 0:
        raise fields.wrong("clip_sample_range", clip, "a positive number")
    return clip


def write_scheduler(scheduler: Scheduler) -> dict[str, Any]:
    """The configuration of the diffusers class that is this sampler.

    eta is not in it: diffusers takes it as an argument only. UserError for a sampler that diffusers has not, for a
    steps_offset that StableDiffusionPipeline would not keep, and for a schedule, sigmas or thresholding that the
    class does not know.
    """
    row = class_of(scheduler.sampler)
    if row is None:
        raise UserError(
            f"the sampler {scheduler.sampler} cannot be saved: diffusers has no such scheduler; save the model with "
            f"another ({', '.join(row.sampler for row in CLASSES)}), and choose this one when painting"
        )
    schedule = scheduler.schedule
    plan = replace(find_sampler(scheduler.sampler).defaults, **scheduler.plan_options)
    if row.spaced and plan.spacing == "leading" and plan.steps_offset != 1:
        raise UserError(
            f"steps_offset {plan.steps_offset} cannot be saved: StableDiffusionPipeline always takes 1 and "
            "would paint other pictures; set it to 1, or choose another spacing"
        )
    for field, value, known in (
        ("a schedule with rescale_zero_snr", schedule.rescale_zero_snr, row.zero_snr),
        ("thresholding", scheduler.threshold is not None, row.thresholds),
        (f"clipping at {scheduler.clip}", scheduler.clip is not None, row.clips is not None),
        (f"sigmas {plan.sigmas}", plan.sigmas != "spaced", row.paths and plan.sigmas in PATHS.values()),
    ):
        if value and not known and (field[0] != "s" or SAMPLERS[row.sampler].paths):
            raise UserError(
                f"{field} cannot be saved for the sampler {row.sampler}: {row.name} does not know "
                "it and would paint other pictures; choose another sampler"
            )
    return {
        "_class_name": row.name,
        "_diffusers_version": DIFFUSERS_VERSION,
        "num_train_timesteps": schedule.num_train_timesteps,
        "beta_start": schedule.beta_start,
        "beta_end": schedule.beta_end,
        "beta_schedule": schedule.beta_schedule,
        "trained_betas": None if schedule.trained_betas is None else list(schedule.trained_betas),
        **({"rescale_betas_zero_snr": schedule.rescale_zero_snr} if row.zero_snr else {}),
        "prediction_type": scheduler.prediction,
        **({"timestep_spacing": plan.spacing, "steps_offset": 1} if row.spaced else {}),
        **{key: meant[0] for key, (_, meant) in row.when.items()},
        **{key: getattr(plan, key) for key in row.options if getattr(plan, key) != -math.inf},
        **({flag: plan.sigmas == path for flag, path in PATHS.items()} if row.paths else {}),
        **_written_threshold(scheduler.threshold),
        **_written_clip(scheduler.clip, row),
    }


def _written_clip(clip: float | None, row: SchedulerClass) -> dict[str, Any]:
    if clip is not None:
        return {"clip_sample": True, "clip_sample_range": clip}
    return {"clip_sample": False} if row.clips else {}


def _written_threshold(threshold: Threshold | None) -> dict[str, Any]:
    if threshold is None:
        return {}
    ratio, largest = threshold.ratio, threshold.largest
    return {"thresholding": True, "dynamic_thresholding_ratio": ratio, "sample_max_value": largest}
