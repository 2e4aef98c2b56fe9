"""`latentbrush txt2img`, `img2img`, `inpaint`, `edit`, `depth2img`, `upscale`: from a prompt, and pictures, to PNG
files; and `sample`, from neither."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentbrush.cli.options import filename, number, whole
from latentbrush.cli.photo import photo_in
from latentbrush.cli.progress import steps_bar
from latentbrush.cli.shared import XL_OPTIONS, PaintOptions, print_left_out, with_paint_options
from latentbrush.cli.tables import shown
from latentbrush.cli.views import Views, print_flagged
from latentbrush.errors import UserError, short
from latentbrush.request import Control, ImageRequest, Stage, Start

if TYPE_CHECKING:  # the pipeline imports torch
    from latentbrush.conditioning import Task
    from latentbrush.model import LatentDiffusion
    from latentbrush.pipeline import Images

__all__ = ["depth2img", "edit", "img2img", "inpaint", "sample", "txt2img", "upscale"]

Prompt = Annotated[str, typer.Argument(help="What to paint.")]


@with_paint_options
def txt2img(
    prompt: Prompt,
    refiner: Annotated[
        str | None, typer.Option(help="A model that paints the last levels, such as Stable Diffusion XL's refiner.")
    ] = None,
    handover: Annotated[
        float | None,
        typer.Option(parser=number, help="After which share of the schedule it takes over; 0.8 by default."),
    ] = None,
    *,
    options: PaintOptions,
) -> None:
    """Paint PROMPT. Steps, guidance, sampler and size are the model's unless given."""
    request = options.request(prompt)
    if refiner is not None:
        stage = Stage(model=refiner) if handover is None else Stage(model=refiner, handover=handover)
        request = request.model_copy(update={"stages": (stage,)})
    elif handover is not None:
        raise UserError(f"--handover {handover:g} says when a refiner takes over, and there is none; add --refiner")
    paint_to_files(request, options)


@partial(with_paint_options, without=("negative", *XL_OPTIONS))
def sample(
    label: Annotated[int | None, typer.Option(parser=whole, help="Of a class, from 0, if the model has any.")] = None,
    *,
    options: PaintOptions,
) -> None:
    """Paint by a model that reads no words. Steps, sampler and size are the model's unless given."""
    paint_to_files(options.request("", label=label), options, words=False)


@with_paint_options
def img2img(
    prompt: Prompt,
    image: Annotated[Path, typer.Option(parser=filename, help="The picture to start from; cut to cover the size.")],
    strength: Annotated[
        float, typer.Option(parser=number, help="From 0, the picture itself, to 1, none of it.")
    ] = Start().strength,
    *,
    options: PaintOptions,
) -> None:
    """Paint PROMPT over a picture. Steps, guidance, sampler and size are the model's unless given."""
    # The request first: a strength out of range is told before a large file is read.
    request = options.request(prompt, Start(strength=strength))
    photo = photo_in(image)
    request = request.model_copy(update={"start": Start(image=photo.sha256, strength=strength)})
    paint_to_files(request, options, {photo.sha256: photo.image})


@with_paint_options
def inpaint(
    prompt: Prompt,
    image: Annotated[Path, typer.Option(parser=filename, help="The picture to paint in; cut to cover the size.")],
    mask: Annotated[Path, typer.Option(parser=filename, help="As large; white is painted anew, black stays.")],
    strength: Annotated[
        float, typer.Option(parser=number, help="From 0, the picture itself, to 1, none of it under the mask.")
    ] = 1.0,
    no_paste: Annotated[
        bool, typer.Option("--no-paste", help="As the model paints it outside the mask, too, not as it was.")
    ] = False,
    label: Annotated[
        int | None, typer.Option(parser=whole, help="Of a class, from 0, for a model that is told one.")
    ] = None,
    *,
    options: PaintOptions,
) -> None:
    """Paint PROMPT where a mask is white. What is black, or transparent, stays as it is, byte for byte.

    Of a model that reads no words the prompt is "".
    """
    request = options.request(prompt, Start(strength=strength, paste=not no_paste), label)
    photo, cover = photo_in(image), photo_in(mask, "black")
    start = request.start.model_copy(update={"image": photo.sha256, "mask": cover.sha256})
    pictures = {photo.sha256: photo.image, cover.sha256: cover.image}
    paint_to_files(request.model_copy(update={"start": start}), options, pictures, words=None)


@partial(with_paint_options, without=XL_OPTIONS)
def edit(
    prompt: Annotated[str, typer.Argument(help="What to change.")],
    image: Annotated[Path, typer.Option(parser=filename, help="The picture to change; cut to cover the size.")],
    image_guidance: Annotated[
        float, typer.Option(parser=number, help="How close to stay to the picture; 1 to 2 is usual.")
    ] = Control().weight,
    *,
    options: PaintOptions,
) -> None:
    """Change a picture as PROMPT tells, by a model trained for that (InstructPix2Pix)."""
    request, photo = options.request(prompt), photo_in(image)
    control = Control(image=photo.sha256, weight=image_guidance)
    images = {photo.sha256: photo.image}
    paint_to_files(request.model_copy(update={"control": control}), options, images, task="editing")


@partial(with_paint_options, without=XL_OPTIONS)
def depth2img(
    prompt: Prompt,
    depth: Annotated[Path, typer.Option(parser=filename, help="The depth map, near parts bright; cut to the size.")],
    image: Annotated[Path | None, typer.Option(parser=filename, help="A picture to start from, too.")] = None,
    strength: Annotated[
        float, typer.Option(parser=number, help="From 0, that picture itself, to 1, none of it.")
    ] = Start().strength,
    *,
    options: PaintOptions,
) -> None:
    """Paint PROMPT into the space that a depth map tells, by a model trained for that."""
    request, read = options.request(prompt, Start(strength=strength)), photo_in(depth)
    update, images = {"control": Control(image=read.sha256)}, {read.sha256: read.image}
    if image is None:
        return paint_to_files(request.model_copy(update=update), options, images, task="depth-to-image")
    photo = photo_in(image)
    start = Start(image=photo.sha256, strength=strength)
    request, images = request.model_copy(update={**update, "start": start}), images | {photo.sha256: photo.image}
    return paint_to_files(request, options, images, task="depth-to-image")


@partial(with_paint_options, without=("canvas", *XL_OPTIONS))
def upscale(
    picture: Annotated[Path, typer.Argument(parser=filename, help="The picture to enlarge, of any size.")],
    prompt: Annotated[str, typer.Argument(help="What it shows; a model without words takes none.")] = "",
    noise_level: Annotated[
        int | None,
        typer.Option(parser=whole, help="Noise put on the picture first, 20 by default; more makes more up."),
    ] = None,
    *,
    options: PaintOptions,
) -> None:
    """Enlarge PICTURE, by a model trained for that: four times each side with Stable Diffusion's x4 upscaler."""
    control = Control(noise_level=noise_level)
    request, photo = options.request(prompt), photo_in(picture)
    control = control.model_copy(update={"image": photo.sha256})
    request = request.model_copy(update={"control": control})
    images, stem = {photo.sha256: photo.image}, f"{picture.stem[:50]}-upscaled"
    paint_to_files(request, options, images, words=None, task="upscaling", stem=stem)


def paint_to_files(
    request: ImageRequest,
    options: PaintOptions,
    images: Images | None = None,
    *,
    words: bool | None = True,
    task: Task | None = None,
    stem: str | None = None,
) -> None:
    """Serve a request into PNG files; refuses what cannot be written before any work is done.

    `words`: is the command for models that read them, or for the others? None for both. `task`: that of the models it
    is for, where others read such pictures, too. `stem`: of the files' names
    where --out says none, instead of the prompt's words.
    """
    from latentbrush.formats import check_writable, output_paths, save_picture, texts_of
    from latentbrush.pipeline import plan_of, resolve, stream

    model = options.load(request)
    _check_words(model, request.model.name, words=words)
    _check_task(model, request.model.name, task)
    request = resolve(model, request, images)
    plan = plan_of(model, request)
    paths = output_paths(options.out, request, stem)
    views = Views(plan, paths, strip=options.strip, animate=options.animate)
    check_writable([*paths, *views.paths], overwrite=options.overwrite)
    print_left_out(model, request)
    batches = len(list(request.sampling.batches()))
    with steps_bar(plan.calls * batches) as on_step:
        for picture, path in zip(stream(model, request, views.watching(on_step), images), paths, strict=True):
            save_picture(picture.image, path, None if options.no_metadata else texts_of(model, picture.record(model)))
            print(f"{shown(str(path))} (seed {picture.seed})")
            if picture.flagged:
                print_flagged(path)
                continue
            place = picture.index - picture.batch.first
            views.save(model, picture.index, place, picture.request)


def _check_words(model: LatentDiffusion, name: str, *, words: bool | None) -> None:
    if words is None or model.reads_words == words:
        return
    if words:
        raise UserError(f"the model {short(name)} reads no words; paint with it by latentbrush sample --model {name}")
    raise UserError(
        f"the model {short(name)} reads words; paint with it by latentbrush txt2img PROMPT, or name another (--model)"
    )


COMMANDS: Mapping[Task, str] = {
    "text-to-image": "txt2img",
    "inpainting": "inpaint",
    "editing": "edit",
    "depth-to-image": "depth2img",
    "upscaling": "upscale",
    "unconditional": "sample",
    "class-to-image": "sample",
}
"""For the models of each task."""


def _check_task(model: LatentDiffusion, name: str, task: Task | None) -> None:
    if task is not None and model.task != task:
        raise UserError(
            f"the task of the model {short(name)} is {model.task}, that of this command {task}; take latentbrush "
            f"{COMMANDS[model.task]}, or name another model (--model)"
        )
