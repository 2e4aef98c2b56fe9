"""The one pipeline: an `ImageRequest` and a model -> pictures."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from latentbrush.conditioning import MicroNumbers
from latentbrush.data.pixels import to_image
from latentbrush.devices import HALVES, enough_memory, in_float32, not_finite, precision
from latentbrush.diffusion import (
    ClassifierFree,
    Guidance,
    OnStep,
    PictureNoise,
    Plan,
    Rescaled,
    find_sampler,
    keep,
    make_plan,
    picture_seeds,
)
from latentbrush.diffusion.image_guidance import ImageGuidance
from latentbrush.errors import UserError
from latentbrush.formats import PictureRecord, record_of
from latentbrush.latents import Tiling, decoded
from latentbrush.model import LatentDiffusion
from latentbrush.nn import Condition
from latentbrush.request import Batch, ImageRequest, Micro
from latentbrush.starts import Given, Images, begin, encode_pictures, pictures_of, to_pixels

__all__ = [
    "GeneratedImage",
    "Images",
    "generate",
    "paint",
    "plan_of",
    "resolve",
    "stream",
    "to_image",
    "to_pixels",
]


@dataclass(frozen=True)
class GeneratedImage:
    """A finished picture: the seed of its noise, its place in the request, and the request as served.

    `steps`: how many were really run; from a guide they are fewer than were asked for. `batch`: with which
    others it was painted; kernels round by its size. `flagged`: by the safety checker, and so black.
    """

    image: Image.Image
    seed: int
    index: int
    request: ImageRequest
    steps: int
    batch: Batch
    flagged: bool = False

    def record(self, model: LatentDiffusion) -> PictureRecord:
        """What the picture's file should say of it; `model` is the one that painted it."""
        return record_of(model, self.request, index=self.index, batch=self.batch, steps_run=self.steps)


def generate(
    model: LatentDiffusion, request: ImageRequest, on_step: OnStep | None = None, images: Images | None = None
) -> list[GeneratedImage]:
    """Paint what `request` says; picture i starts from the noise of seed + i.

    `on_step(x, level, denoised) -> x` is called after every network call of every batch, with latents
    (B, c, h, w): to watch, to change, or to cancel by raising. `images`: those that the request refers to;
    the start's is cut to cover the canvas. UserError for what the model cannot do.
    """
    return list(stream(model, request, on_step, images))


def stream(
    model: LatentDiffusion,
    request: ImageRequest,
    on_step: OnStep | None = None,
    images: Images | None = None,
    batches: Iterable[Batch] | None = None,
) -> Iterator[GeneratedImage]:
    """As `generate`, but hands out pictures as their batches are finished, so that none waits for the last.

    `batches`: instead of all that the request asks for.
    """
    request = resolve(model, request)
    assert request.sampling.seed is not None
    seeds = picture_seeds(request.sampling.seed, request.sampling.count)
    pictures, steps = pictures_of(request, images or {}), len(plan_of(model, request).steps)
    tiling = Tiling(request.canvas.tiles)
    with _enough_memory(request, 1):
        given = encode_pictures(model, request, pictures, tiling) if steps else Given()
    for batch in request.sampling.batches() if batches is None else batches:
        together = seeds[batch.first : batch.first + batch.size]
        if pictures.image is not None and not steps:
            painted = [pictures.image.copy() for _ in together]
        else:
            with _enough_memory(request, len(together)):
                prompts = [request.prompt] * len(together)
                pixels = paint(model, prompts, together, request, on_step or keep, given, tiling)
            painted = [to_image(one) for one in pixels]
        if request.start.paste:
            painted = [pictures.pasted(one) for one in painted]
        flags = _flags(model, request, painted)
        served = request.model_copy(update={"canvas": request.canvas.model_copy(update={"tiles": tiling.done})})
        for i, (seed, image, flagged) in enumerate(zip(together, painted, flags, strict=True), batch.first):
            shown = Image.new("RGB", image.size) if flagged else image
            yield GeneratedImage(shown, seed, i, served, steps, batch, flagged)


def _enough_memory(request: ImageRequest, count: int) -> AbstractContextManager[None]:
    size = f"{request.canvas.width}x{request.canvas.height}"
    return enough_memory(
        f"{count} at once of {size}", "choose fewer at once (batch size), smaller ones, tiles or low memory"
    )


@torch.inference_mode()
def paint(
    model: LatentDiffusion,
    prompts: Sequence[str],
    seeds: Sequence[int],
    request: ImageRequest,
    on_step: OnStep = keep,
    given: Given | None = None,
    tiling: Tiling | None = None,
) -> Tensor:
    """One batch, picture i of prompts[i] and seeds[i], the rest as the resolved `request` says.

    `given`: the request's pictures, if it has any; `tiling`: None for a new one, as the request says.
    Returns (B, 3, H, W), about [-1, 1].
    Half precision overflows where float32 does not: pictures that are not finite are done once more in float32,
    their decoding alone if it was that. UserError for what is not finite then, either.
    """
    half, draws = model.dtype in HALVES, model.dtype
    x = _sampled(model, prompts, seeds, request, on_step, given or Given(), draws)
    if half and (spoilt := not_finite(x)):
        # All of them: whoever watches or changes steps counts on the batch. What was finite stays as it was.
        with in_float32(model.text, model.unet):
            again = _sampled(model, prompts, seeds, request, on_step, given or Given(), draws)
        x = x.float()
        x[spoilt] = again[spoilt]
    weight = request.guidance.weight
    return decoded(
        model,
        x,
        lambda i: (
            f"the picture of seed {seeds[i]} is not finite at guidance {weight:g}; choose less guidance or more steps"
        ),
        tiling or Tiling(request.canvas.tiles),
    )


def _sampled(
    model: LatentDiffusion,
    prompts: Sequence[str],
    seeds: Sequence[int],
    request: ImageRequest,
    on_step: OnStep,
    given: Given,
    draws: torch.dtype,
) -> Tensor:
    """The latents (B, c, h, w) of `paint`, in the model's type; `draws`: the type of the random numbers."""
    canvas, sampling, guidance = request.canvas, request.sampling, request.guidance
    if not (canvas.width and canvas.height and sampling.sampler) or guidance.weight is None:
        raise ValueError("paint needs a resolved request; call resolve(model, request) first")
    plan = plan_of(model, request)
    drawn = PictureNoise(seeds, model.latent_shape(canvas.width, canvas.height), draws, model.device)

    def noise() -> Tensor:
        return drawn().to(model.dtype)

    begun = begin(given, plan, noise, on_step)

    def told(read: Callable[[Sequence[str]], Condition], words: Sequence[str], *, negative: bool = False) -> Condition:
        micro = _micro(model, request, len(seeds), negative=negative)
        return replace(_encode(read, words), micro=micro, channels=begun.channels)

    condition = told(model.text, prompts)
    methods: list[Guidance] = []
    editing = model.task == "editing"
    if guidance.weight != 1 or (editing and request.control.weight != 1):
        negative = told(model.text.negative, [guidance.negative] * len(seeds), negative=True)
        if editing and begun.channels is not None:
            blind = replace(negative, channels=torch.zeros_like(begun.channels))
            methods = [ImageGuidance(negative, blind, guidance.weight, request.control.weight)]
        else:
            methods = [ClassifierFree(negative, guidance.weight)]
        if guidance.rescale:
            methods.append(Rescaled(guidance.rescale))
    run = find_sampler(sampling.sampler).run
    return run(model.denoiser(condition, methods), begun.x, plan.steps, noise, begun.on_step, **plan.options)


def _encode(read: Callable[[Sequence[str]], Condition], prompts: Sequence[str]) -> Condition:
    """Each distinct prompt is encoded once, so that a picture's words do not depend on its company either."""
    distinct = list(dict.fromkeys(prompts))
    return read(distinct).rows([distinct.index(prompt) for prompt in prompts])


def _micro(model: LatentDiffusion, request: ImageRequest, batch: int, *, negative: bool = False) -> Tensor | None:
    """The numbers beside the words (batch, k), None for a model that takes none."""
    micro = request.micro
    if not model.micro_count or micro.original is None or micro.target is None:
        return None
    score = micro.negative_aesthetic if negative else micro.aesthetic
    numbers = MicroNumbers(micro.original, micro.crop, micro.target, score)
    return numbers.tensor(model.micro_count, batch).to(model.device)


def plan_of(model: LatentDiffusion, request: ImageRequest) -> Plan:
    """The steps of every picture of a resolved request. UserError where sampler and steps do not fit."""
    sampling, start = request.sampling, request.start
    if sampling.sampler is None or sampling.steps is None:
        raise ValueError("a plan needs a resolved request; call resolve(model, request) first")
    strength = 1.0 if start.image is None else start.strength
    config = model.plan_config(sampling.sampler, sampling.sigmas)
    return make_plan(sampling.sampler, model.schedule, sampling.steps, config, strength)


def resolve(model: LatentDiffusion, request: ImageRequest) -> ImageRequest:
    """The request with every None filled in: from the model and its defaults, and a random seed.

    UserError where the model cannot serve it: a size that f does not divide, an unknown sampler, more steps
    than it was trained with, seeds that run out, another type of numbers than it was loaded as.
    """
    defaults, sampling = model.defaults, request.sampling
    width, height = request.canvas.width or defaults.width, request.canvas.height or defaults.height
    seed = secrets.randbelow(2**32) if sampling.seed is None else sampling.seed
    weight = request.guidance.weight
    sampler = model.sampler if sampling.sampler is None else sampling.sampler
    config = model.plan_config(sampler, sampling.sigmas)
    sigmas = config.sigmas if find_sampler(sampler).paths else "spaced"
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
    _check_task(model, request)
    if request.model.safety_check and model.safety_check is None:
        raise UserError(
            "the request asks for a safety check, but the model was loaded without its safety checker; load that with "
            "latentbrush.formats.with_safety_check"
        )
    resolved = request.model_copy(
        update={
            "model": request.model.model_copy(update={"dtype": dtype, "fast_decoder": fast, "vae": vae}),
            "canvas": request.canvas.model_copy(update={"width": width, "height": height}),
            "sampling": sampling.model_copy(
                update={"sampler": sampler, "sigmas": sigmas, "steps": steps, "seed": seed}
            ),
            "guidance": request.guidance.model_copy(update={"weight": defaults.guidance if weight is None else weight}),
            "micro": _resolved_micro(model, request.micro, (width, height)),
        }
    )
    plan_of(model, resolved)
    return resolved


def _flags(model: LatentDiffusion, request: ImageRequest, painted: Sequence[Image.Image]) -> list[bool]:
    """What the safety checker says of finished pictures, if it is asked."""
    if not request.model.safety_check or model.safety_check is None:
        return [False] * len(painted)
    return model.safety_check(painted)


def _fast_decoder(model: LatentDiffusion, wished: str | None) -> str | None:
    """The folder of the tiny autoencoder that decodes. UserError where the request has one and the model none."""
    if model.fast_decoder is None:
        if wished is not None:
            raise UserError(
                f"the request's fast_decoder is {wished!r}, but the model was loaded without it; "
                "load it with latentbrush.formats.with_fast_decoder"
            )
        return None
    return wished or ("(in memory)" if model.fast_origin is None else str(model.fast_origin.folder))


def _vae(model: LatentDiffusion, wished: str | None) -> str | None:
    """The autoencoder in the place of the model's own. UserError where the request has one and the model none."""
    if model.exchanged is None and wished is not None:
        raise UserError(
            f"the request's vae is {wished!r}, but the model was loaded with its own; load it with vae={wished!r}"
        )
    return wished or (None if model.exchanged is None else model.exchanged.name)


NEEDED = {"editing": "a picture to edit", "depth-to-image": "a depth map"}
"""Task -> what the control's picture is."""


def _check_task(model: LatentDiffusion, request: ImageRequest) -> None:
    """UserError unless the request has the pictures that the model reads, and no others."""
    needed = NEEDED.get(model.task)
    if model.task == "inpainting" and request.start.mask is None:
        raise UserError(
            "the model was trained for inpainting: it needs a picture and a mask, in which white is painted anew; "
            "give both (latentbrush inpaint)"
        )
    if model.task == "upscaling":
        raise UserError("the model was trained for upscaling, which is not done here; choose another model")
    if needed is not None and request.control.image is None:
        raise UserError(f"the model was trained for {model.task}: it needs {needed}; name one as the request's control")
    if needed is None and request.control.image is not None:
        raise UserError(
            f"the model was trained for {model.task} and reads no picture beside the words; leave that (the control) "
            "out, or name a model trained for editing or depth-to-image (--model)"
        )


def _resolved_micro(model: LatentDiffusion, micro: Micro, size: tuple[int, int]) -> Micro:
    if model.micro_count:
        return micro.model_copy(update={"original": micro.original or size, "target": micro.target or size})
    if micro != Micro():
        raise UserError("the model is told no sizes or scores beside the words; leave the request's micro out")
    return micro
