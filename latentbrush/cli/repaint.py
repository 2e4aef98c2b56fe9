"""A picture painted again: by which model, and from which request, as its file and the user have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from latentbrush.cli.told import check_start
from latentbrush.errors import UserError, short
from latentbrush.request import Batch, ImageRequest, ModelRequest

if TYPE_CHECKING:  # these import torch
    from latentbrush.formats import Parameters, Photo, PictureRecord
    from latentbrush.model import LatentDiffusion

__all__ = ["Task", "Wished", "again", "alike", "check_size"]

MAX_BATCH = 64
"""Pictures painted together for the sake of one, and more only when meant: a file may state any number."""


@dataclass(frozen=True)
class Wished:
    """What the user wants otherwise than the picture says; None or auto where it is as there."""

    model: str | None
    refiner: str | None
    vae: str | None
    fast_decoder: str | None
    device: str
    dtype: str
    low_memory: bool


@dataclass(frozen=True)
class Task:
    """One picture to paint: `index` of the request, in its batch. `notes`: what the model cannot do as told."""

    model: LatentDiffusion
    request: ImageRequest
    batch: Batch
    index: int
    notes: Sequence[str]


def again(then: PictureRecord, file: Path, wished: Wished, start: Photo | None) -> Task:
    """As it was painted here: the same batch, by the same model unless another is wished."""
    import torch

    from latentbrush.formats import load_for
    from latentbrush.pipeline import resolve

    check_start(then, file, start)
    request = then.request
    if "tiles" not in request.canvas.model_fields_set:  # painted before there were any
        request = request.model_copy(update={"canvas": request.canvas.model_copy(update={"tiles": "off"})})
    request = request.model_copy(update={"model": _named(request, file, wished)})
    stages = tuple(
        stage.model_copy(update={"model": _found(wished.refiner or stage.model, "--refiner")})
        for stage in request.stages
    )
    request = request.model_copy(update={"stages": stages})
    if wished.refiner is not None and not stages:
        raise UserError(f"{file} was painted without a refiner; leave out --refiner")
    as_then = "cuda" if then.machine.device == "cuda" and torch.cuda.is_available() else "cpu"
    # Pictures that do not name their weights do not say either by which scheduler the model was read.
    own, refiners = (
        request.sampling.sampler if read is None or not read.weights else read.sampler
        for read in (then.model, then.model.refiner)
    )
    model = load_for(
        request,
        sampler=(own, refiners),
        dtype=_dtype(then, file, wished.dtype),
        device=as_then if wished.device == "auto" else wished.device,
        low_memory=wished.low_memory,
    )
    return Task(model, resolve(model, request), then.painted_in, then.index, notes=())


def _named(request: ImageRequest, file: Path, wished: Wished) -> ModelRequest:
    """The picture's model with all its parts, those that have moved from where the user says."""
    from latentbrush.formats import single_file

    named = request.model
    name = _found(wished.model or named.name)
    # A folder holds one kind of weights only; all else says how the picture was made, wherever the model lies now.
    weights = named.weights if wished.model is None or single_file(name) is not None else None
    parts = {}
    for field, option, what in (
        ("vae", "--vae", "autoencoder but the model's own"),
        ("fast_decoder", "--fast-decoder", "fast decoder"),
    ):
        then, now = getattr(named, field), getattr(wished, field)
        if then is None and now is not None:
            raise UserError(f"{file} was painted by no {what}; leave out {option}")
        if then is not None:
            parts[field] = _part_found(now or then, option)
    return named.model_copy(update={"name": name, "weights": weights, **parts})


def _dtype(then: PictureRecord, file: Path, wished: str) -> str:
    """The type of numbers that it was painted in. UserError where another is wished, whose noise is another."""
    told = then.machine.dtype if "dtype" in then.machine.model_fields_set else then.request.model.dtype
    if told is None:
        return "float32" if wished == "auto" else wished
    if wished not in ("auto", told):
        raise UserError(
            f"--dtype is {wished}, but {file} was painted in {told}, and the noise of a seed is another in each type; "
            "leave out --dtype"
        )
    return told


def alike(told: Parameters, file: Path, wished: Wished, start: Photo | None) -> Task:
    """As near to another program's picture as the model comes."""
    from latentbrush.formats import foreign_request, foreign_sampler, load_for
    from latentbrush.pipeline import resolve

    if wished.refiner is not None:
        raise UserError(f"{file} is of another program, whose refiner is not read here; leave out --refiner")
    name = ModelRequest().name if wished.model is None else wished.model
    named = ModelRequest(name=name, vae=wished.vae, fast_decoder=wished.fast_decoder)
    sampler = foreign_sampler(told)
    load = partial(
        load_for,
        ImageRequest(prompt="", model=named),
        device=wished.device,
        dtype=wished.dtype,
        low_memory=wished.low_memory,
    )
    try:
        model = load(sampler=sampler)
    except UserError:
        if sampler is not None:
            raise
        model = load(sampler="ddim")  # for a folder whose own scheduler is not here either
    request, notes = foreign_request(told, model, name, None if start is None else start.sha256)
    for what, prompt in (("prompt", request.prompt), ("negative prompt", request.guidance.negative)):
        if left_out := model.text.cut(prompt):
            notes.append(f"the {what} is too long; left out: {short(left_out)}")
    return Task(model, resolve(model, request), Batch(first=0, size=1), 0, notes)


def check_size(task: Task, file: Path) -> None:
    """A file may state what would take hours and all memory; UserError where only the user can mean it."""
    from latentbrush.formats.foreign import MAX_LARGER

    own, canvas = task.model.defaults, task.request.canvas
    assert canvas.width is not None
    assert canvas.height is not None
    said = None
    # An upscaler's size is that of a picture which the user has to give, too.
    upscaled = task.model.task == "upscaling"
    if not upscaled and canvas.width * canvas.height > MAX_LARGER * own.width * own.height:
        size = f"{canvas.width}x{canvas.height} pixels"
        said = f"with {size}, more than {MAX_LARGER} times the {own.width}x{own.height} of this model"
    elif task.batch.size > MAX_BATCH:
        said = f"in a batch of {task.batch.size}, more than {MAX_BATCH}"
    if said is not None:
        raise UserError(f"{file} was painted {said}; if you mean that, add --large")


def _found(name: str, option: str = "--model") -> str:
    """The model's name. UserError, with the option that mends it, where it is not there any more."""
    from latentbrush.formats import resolve_model, single_file

    try:
        if single_file(name) is None:
            resolve_model(name)
    except UserError as error:
        raise UserError(f"{error} with {option}") from None
    return name


def _part_found(name: str, option: str) -> str:
    """As `_found`, for a part that lies by itself."""
    try:
        return _found(name)
    except UserError:
        raise UserError(f"{option[2:]} {short(name)} does not exist; say where it lies now by {option}") from None
