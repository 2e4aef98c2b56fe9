"""What a request means to one model: every None filled in, the steps decided, and refused what cannot be served."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from latentbrush.conditioning import LabelConditioner
from latentbrush.devices import precision
from latentbrush.diffusion import Plan, above, below, check_handover, find_sampler, make_plan, picture_seeds
from latentbrush.errors import UserError, short
from latentbrush.model import LatentDiffusion
from latentbrush.request import Control, ImageRequest, Micro
from latentbrush.starts import Images, size_of

__all__ = ["decoding", "parts_of", "plan_of", "resolve", "whole_plan"]


def plan_of(model: LatentDiffusion, request: ImageRequest) -> Plan:
    """The steps of every picture of a resolved request, a refiner's too. UserError where sampler and steps do not
    fit."""
    parts = parts_of(model, request)
    _, first = parts[0]
    return replace(first, steps=tuple(step for _, part in parts for step in part.steps))


def parts_of(model: LatentDiffusion, request: ImageRequest) -> list[tuple[LatentDiffusion, Plan]]:
    """Who paints, and which steps: the model all, or down to where a refiner takes over."""
    plan = whole_plan(model, request)
    if not request.stages or model.refiner is None:
        return [(model, plan)]
    [stage], sampling = request.stages, request.sampling
    assert sampling.sampler is not None
    assert sampling.steps is not None
    first = above(plan, model.schedule, stage.handover)
    second = below(whole_plan(model.refiner, request), model.refiner.schedule, stage.handover)
    check_handover(sampling.sampler, first, second, sampling.steps, stage.handover)
    return [(model, first), (model.refiner, second)]


@contextmanager
def decoding(model: LatentDiffusion, request: ImageRequest) -> Iterator[LatentDiffusion]:
    """Whose decoder makes the pictures of a request: that of who painted last.

    But what was put in the place of the model's own decoder, another autoencoder or a tiny one, was put there for all
    pictures. With low memory a refiner leaves the device afterwards, for the model's next batch.
    """
    own = model.exchanged is None and model.fast_decoder is None
    last = model.refiner if own and request.stages and model.refiner is not None else model
    try:
        yield last
    finally:
        if last is not model:
            last.rest()


def whole_plan(model: LatentDiffusion, request: ImageRequest) -> Plan:
    """All steps that one model has for a request."""
    sampling, start = request.sampling, request.start
    if sampling.sampler is None or sampling.steps is None:
        raise ValueError("a plan needs a resolved request; call resolve(model, request) first")
    strength = 1.0 if start.image is None else start.strength
    config = model.plan_config(sampling.sampler, sampling.sigmas)
    return make_plan(sampling.sampler, model.schedule, sampling.steps, config, strength)


def resolve(model: LatentDiffusion, request: ImageRequest, images: Images | None = None) -> ImageRequest:
    """The request with every None filled in: from the model and its defaults, and a random seed.

    `images`: those that the request refers to, of which an upscaler's says the size.

    UserError where the model cannot serve it: a size that f does not divide, an unknown sampler, more steps
    than it was trained with, seeds that run out, another type of numbers than it was loaded as.
    """
    defaults, sampling = model.defaults, request.sampling
    _check_task(model, request)
    width, height = size_of(model, request, images or {})
    seed = secrets.randbelow(2**32) if sampling.seed is None else sampling.seed
    weight = request.guidance.weight
    sampler = model.sampler if sampling.sampler is None else sampling.sampler
    config = model.plan_config(sampler, sampling.sigmas)
    sigmas = config.sigmas if find_sampler(sampler).paths else "spaced"
    model.limits_of(sampler)
    steps = defaults.steps if sampling.steps is None else sampling.steps
    dtype = precision(model.dtype)
    if request.model.dtype not in (None, dtype):
        raise UserError(
            f"the request's dtype is {request.model.dtype}, but the model was loaded as {dtype}; "
            f"load it with dtype={request.model.dtype!r}"
        )
    fast, vae = _fast_decoder(model, request.model.fast_decoder), _vae(model, request.model.vae)
    # Asked now, so that nothing is refused when half the work is done.
    model.latent_shape(width, height)
    picture_seeds(seed, sampling.count)
    _check_said(model, request)
    _check_stages(model, request)
    _check_safety(model, request)
    resolved = request.model_copy(
        update={
            "model": request.model.model_copy(update={"dtype": dtype, "fast_decoder": fast, "vae": vae}),
            "canvas": request.canvas.model_copy(update={"width": width, "height": height}),
            "sampling": sampling.model_copy(
                update={"sampler": sampler, "sigmas": sigmas, "steps": steps, "seed": seed}
            ),
            "guidance": request.guidance.model_copy(update={"weight": defaults.guidance if weight is None else weight}),
            "control": _resolved_control(model, request.control),
            "micro": _resolved_micro(model, request.micro, (width, height)),
        }
    )
    plan_of(model, resolved)
    return resolved


def _fast_decoder(model: LatentDiffusion, wished: str | None) -> str | None:
    """The folder of the tiny autoencoder that decodes. UserError where the request has another, or the model none."""
    if model.fast_decoder is None:
        if wished is not None:
            raise UserError(
                f"the request's fast_decoder is {wished!r}, but the model was loaded without it; "
                "load it with latentbrush.formats.with_fast_decoder"
            )
        return None
    return _loaded(
        "fast_decoder", wished, "(in memory)" if model.fast_origin is None else str(model.fast_origin.folder)
    )


def _vae(model: LatentDiffusion, wished: str | None) -> str | None:
    """The autoencoder in the place of the model's own. UserError where the request has another, or the model none."""
    if model.exchanged is None:
        if wished is not None:
            raise UserError(
                f"the request's vae is {wished!r}, but the model was loaded with its own; load it with vae={wished!r}"
            )
        return None
    return _loaded("vae", wished, model.exchanged.name)


def _loaded(part: str, wished: str | None, name: str) -> str:
    """What the request calls a part that was loaded as `name`. UserError where that is another: its picture would name
    what did not paint it."""
    if wished is None:
        return name
    if _place(wished) != _place(name):
        raise UserError(
            f"the request's {part} is {short(wished)}, but the model was loaded with {short(name)}; leave it out of "
            "the request, or load the model for it with latentbrush.formats.load_for"
        )
    return wished


def _place(name: str) -> str:
    """A name, or a path in the one form of all that lead there."""
    try:
        return os.path.realpath(os.path.expanduser(name))
    except (OSError, ValueError):  # none that a disk can have
        return name


NEEDED = {
    "editing": ("a picture to edit", "edit"),
    "depth-to-image": ("a depth map", "depth2img"),
    "upscaling": ("a small picture", "upscale"),
}
"""Task -> what the control's picture is, and the command that takes it."""
NOISE_LEVEL = 20
"""Of an upscaler's small picture, unless the request says another."""


def _check_task(model: LatentDiffusion, request: ImageRequest) -> None:
    """UserError unless the request has the pictures that the model reads, and no others."""
    needed = NEEDED.get(model.task)
    if model.task == "inpainting" and request.start.mask is None:
        raise UserError(
            "the model was trained for inpainting: it needs a picture and a mask, in which white is painted anew; "
            "give both (latentbrush inpaint)"
        )
    if model.task == "upscaling" and request.start.image is not None:
        raise UserError(
            "the model was trained for upscaling and starts from noise alone; give the picture as the request's "
            "control (latentbrush upscale), and leave the start out"
        )
    if needed is not None and request.control.image is None:
        what, command = needed
        raise UserError(
            f"the model was trained for {model.task}: it needs {what}; give it as the request's control "
            f"(latentbrush {command})"
        )
    if needed is None and request.control.image is not None:
        raise UserError(
            f"the model's task is {model.task}, and it reads no picture beside what it is told; leave that (the "
            "control) out, or name a model trained for editing, depth-to-image or upscaling (--model)"
        )


def _resolved_control(model: LatentDiffusion, control: Control) -> Control:
    """The noise level of an upscaler's small picture, which other models have not."""
    level = control.noise_level
    if model.augmentation is None:
        if level is not None:
            what = "puts none on its picture" if model.task == "upscaling" else f"is for {model.task} and takes none"
            raise UserError(f"the noise level is {level}, but the model {what}; leave it out")
        return control
    most = model.augmentation.most
    if level is None:
        return control.model_copy(update={"noise_level": min(NOISE_LEVEL, most)})
    if level > most:
        raise UserError(f"the noise level is {level}, but the model was trained with 0 to {most}; choose one of these")
    return control


def _check_said(model: LatentDiffusion, request: ImageRequest) -> None:
    """UserError unless the request tells what the model is told, words or a label, and no more."""
    model.said(request.prompt, request.label)
    text, guidance = model.text, request.guidance
    if not isinstance(text, LabelConditioner):
        return
    if guidance.negative:
        raise UserError(
            f"the negative prompt is {short(guidance.negative)}, but the model reads no words; leave it out"
        )
    if not text.guides and guidance.weight not in (None, 1):
        raise UserError(
            f"guidance is {guidance.weight:g}, but the model knows nothing to be guided away from; leave it out, or "
            "choose 1"
        )


def _check_stages(model: LatentDiffusion, request: ImageRequest) -> None:
    """UserError where a refiner is asked for that is not there, or that has nothing to take over."""
    if not request.stages:
        return
    name = short(request.stages[0].model)
    if model.refiner is None:
        raise UserError(
            f"the request's refiner is {name}, but the model was loaded without it; load it with "
            "latentbrush.formats.with_refiner"
        )
    if model.refiner_name is not None:
        _loaded("refiner", request.stages[0].model, model.refiner_name)
    if request.start.image is not None:
        raise UserError(f"the request has a picture to start from and the refiner {name}; leave one of them out")


def _check_safety(model: LatentDiffusion, request: ImageRequest) -> None:
    if request.model.safety_check and model.safety_check is None:
        raise UserError(
            "the request asks for a safety check, but the model was loaded without its safety checker; load that with "
            "latentbrush.formats.with_safety_check"
        )


def _resolved_micro(model: LatentDiffusion, micro: Micro, size: tuple[int, int]) -> Micro:
    if model.micro_count:
        return micro.model_copy(update={"original": micro.original or size, "target": micro.target or size})
    if micro != Micro():
        raise UserError(
            "the model is told no sizes, crop or scores beside the words, and the request has some; leave them out"
        )
    return micro
