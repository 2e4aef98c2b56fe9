"""`latentbrush reproduce`: paint a picture again, from what its file says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentbrush.cli.options import filename
from latentbrush.cli.photo import photo_in
from latentbrush.cli.progress import steps_bar
from latentbrush.cli.shared import (
    AnimateOption,
    DeviceOption,
    DtypeOption,
    LowMemoryOption,
    NoMetadataOption,
    StripOption,
    print_left_out,
    print_notes,
)
from latentbrush.cli.tables import shown
from latentbrush.cli.views import Views, print_flagged
from latentbrush.errors import UserError, short
from latentbrush.request import Batch, ImageRequest, ModelRequest

if TYPE_CHECKING:  # these import torch
    from PIL.Image import Image

    from latentbrush.formats import Parameters, Photo, PictureRecord
    from latentbrush.model import LatentDiffusion

__all__ = ["reproduce"]

MAX_NOTES = 30
"""Lines about one picture; a file may give cause for any number."""
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


def reproduce(
    file: Annotated[
        Path, typer.Argument(parser=filename, help="A PNG painted here, or by a web UI that writes its parameters.")
    ],
    out: Annotated[
        Path | None, typer.Option(parser=filename, help="A PNG file or a folder; out/NAME-reproduced.png by default.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Instead of the model that FILE names; with all that FILE says.")
    ] = None,
    refiner: Annotated[str | None, typer.Option(help="Instead of the refiner that FILE names.")] = None,
    vae: Annotated[
        Path | None,
        typer.Option(parser=filename, help="Instead of the autoencoder, not the model's own, that it names."),
    ] = None,
    fast_decoder: Annotated[
        Path | None, typer.Option(parser=filename, help="Instead of the tiny autoencoder that it names.")
    ] = None,
    image: Annotated[Path | None, typer.Option(parser=filename, help="The picture that FILE was painted over.")] = None,
    mask: Annotated[Path | None, typer.Option(parser=filename, help="The mask under which FILE was painted.")] = None,
    control: Annotated[
        Path | None,
        typer.Option(parser=filename, help="The picture that the model read: to edit, to enlarge, or a depth map."),
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    low_memory: LowMemoryOption = False,
    strip: StripOption = False,
    animate: AnimateOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing picture.")] = False,
    large: Annotated[bool, typer.Option("--large", help="Paint very large pictures and batches, too.")] = False,
    no_metadata: NoMetadataOption = False,
) -> None:
    """Paint the picture in FILE again, from its own metadata.

    Says whether all pixels are the same, and what differs: weights, versions, machine. Of other programs'
    pictures it says what cannot be done as they tell; and on standard error, as all that paint, how a file was read
    that does not say all about itself. --dtype is for pictures that do not say theirs.
    """
    from latentbrush.formats import PictureRecord, check_writable, output_path, save_picture, texts_of
    from latentbrush.pipeline import plan_of, stream

    original, told = photo_in(file).image, _told(file)
    start, read = (None if given is None else photo_in(given) for given in (image, control))
    cover = None if mask is None else photo_in(mask, "black")
    path = output_path(out, f"{file.stem[:50]}-reproduced")
    check_writable([path], overwrite=overwrite)
    if isinstance(told, PictureRecord):
        _check_further(told.request.start.mask, cover, file, "mask")
        _check_further(told.request.control.image, read, file, "control")
    decoders = [None if path is None else str(path) for path in (vae, fast_decoder)]
    wished = Wished(model, refiner, decoders[0], decoders[1], device, dtype, low_memory)
    task = _again(told, file, wished, start) if isinstance(told, PictureRecord) else _alike(told, file, wished, start)
    print_notes(task.model, task.request)
    if isinstance(told, PictureRecord):  # of another program's picture the notes say it
        print_left_out(task.model, task.request)
    if not large:
        _check_size(task, file)
    plan, place = plan_of(task.model, task.request), task.index - task.batch.first
    views = Views(plan, [path], strip=strip, animate=animate)
    check_writable(views.paths, overwrite=overwrite)
    images = {photo.sha256: photo.image for photo in (start, cover, read) if photo is not None}
    with steps_bar(plan.calls) as on_step:
        picture = list(stream(task.model, task.request, views.watching(on_step), images, batches=[task.batch]))[place]
    record = picture.record(task.model)
    save_picture(picture.image, path, None if no_metadata else texts_of(task.model, record))
    same = _compared(picture.image, original)
    print(f"{shown(str(path))} (seed {picture.seed}): {same} {shown(str(file))}")
    if picture.flagged:
        print_flagged(path)
    else:
        views.save(task.model, 0, place, picture.request)
    for line in _lines(task.notes, told, record, same=picture.image.tobytes() == original.tobytes()):
        print(f"- {line}")


def _told(file: Path) -> PictureRecord | Parameters:
    """What the file says: our record, else a web UI's parameters, else ComfyUI's graph."""
    from latentbrush import formats

    texts = formats.read_texts(file)
    if formats.METADATA_KEY in texts:
        return formats.parse_record(texts[formats.METADATA_KEY], str(file))
    if texts.get(formats.PARAMETERS_KEY, "").strip():
        try:
            return formats.parse_parameters(texts[formats.PARAMETERS_KEY])
        except UserError as error:
            raise UserError(f"{file}: {error}") from None
    if formats.COMFYUI_KEY in texts:
        return formats.parse_comfyui(texts[formats.COMFYUI_KEY], str(file))
    raise UserError(f"{file} does not say how it was painted; give a PNG with its metadata")


def _again(then: PictureRecord, file: Path, wished: Wished, start: Photo | None) -> Task:
    """As it was painted here: the same batch, by the same model unless another is wished."""
    import torch

    from latentbrush.formats import load_for
    from latentbrush.pipeline import resolve

    _check_start(then, file, start)
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


def _alike(told: Parameters, file: Path, wished: Wished, start: Photo | None) -> Task:
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


def _check_size(task: Task, file: Path) -> None:
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


def _check_start(then: PictureRecord, file: Path, start: Photo | None) -> None:
    """UserError unless the picture to start from is there where one is needed, and is that one."""
    needed = then.request.start
    if start is None and needed.image is not None and (needed.strength < 1 or needed.mask is not None):
        raise UserError(
            f"{file} was painted over another picture, whose file has the SHA-256 {needed.image}; give it with --image"
        )
    if start is not None and needed.image is None:
        raise UserError(f"{file} was painted from noise, over no picture; leave out --image")
    if start is not None and start.sha256 != needed.image:
        raise UserError(
            f"--image is not the picture that {file} was painted over: its SHA-256 is {start.sha256}, needed is "
            f"{needed.image}; give the very file, not one saved anew"
        )


def _check_further(needed: str | None, given: Photo | None, file: Path, option: str) -> None:
    """As `_check_start`, for the picture of another option: `needed` is what the request names."""
    if given is None and needed is not None:
        raise UserError(
            f"{file} was painted with a {option}, whose file has the SHA-256 {needed}; give it with --{option}"
        )
    if given is not None and needed is None:
        raise UserError(f"{file} was painted without a {option}; leave out --{option}")
    if given is not None and given.sha256 != needed:
        raise UserError(
            f"--{option} is not the {option} that {file} was painted with: its SHA-256 is {given.sha256}, needed is "
            f"{needed}; give the very file, not one saved anew"
        )


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


def _compared(painted: Image, original: Image) -> str:
    """How the two relate, up to the name of the second."""
    import numpy as np

    if painted.size != original.size:
        ours, theirs = (f"{image.width}x{image.height}" for image in (painted, original))
        return f"{ours} pixels, unlike the {theirs} of"
    apart = np.abs(np.asarray(painted).astype(int) - np.asarray(original).astype(int)).max(axis=-1)
    if not apart.any():
        return "identical to"
    return f"{np.count_nonzero(apart)} of {apart.size} pixels differ, by at most {apart.max()} of 255, from"


def _lines(notes: Sequence[str], told: PictureRecord | Parameters, now: PictureRecord, *, same: bool) -> list[str]:
    """What is not as it was, a line each, but never without end."""
    from latentbrush.formats import PictureRecord, differences

    lines = list(notes)
    if isinstance(told, PictureRecord):
        lines += differences(told, now)
        if not lines and not same:
            lines.append("weights, versions and threads are as they were: it was changed, or is from another machine")
    return lines if len(lines) <= MAX_NOTES else [*lines[:MAX_NOTES], f"and {len(lines) - MAX_NOTES} more"]
