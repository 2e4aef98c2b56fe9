"""The one pipeline: an `ImageRequest` and a model -> pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from latentbrush.conditioning import MicroNumbers
from latentbrush.data.pixels import to_image
from latentbrush.devices import HALVES, enough_memory, in_float32, not_finite
from latentbrush.diffusion import (
    ClassifierFree,
    Guidance,
    Noise,
    OnStep,
    PictureNoise,
    Plan,
    Rescaled,
    find_sampler,
    interrupted,
    keep,
    picture_seeds,
)
from latentbrush.diffusion.image_guidance import ImageGuidance
from latentbrush.formats import PictureRecord, record_of
from latentbrush.latents import Tiling, decoded
from latentbrush.model import LatentDiffusion
from latentbrush.nn import Condition
from latentbrush.request import Batch, ImageRequest
from latentbrush.resolving import decoding, parts_of, plan_of, resolve, whole_plan
from latentbrush.starts import Begun, Given, Images, begin, encode_pictures, pictures_of, to_pixels

__all__ = [
    "GeneratedImage",
    "Images",
    "decoding",
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
    request = resolve(model, request, images)
    assert request.sampling.seed is not None
    seeds = picture_seeds(request.sampling.seed, request.sampling.count)
    pictures, steps = pictures_of(model, request, images or {}), len(plan_of(model, request).steps)
    tiling = Tiling(request.canvas.tiles)
    with _enough_memory(request, 1):
        given = encode_pictures(model, request, pictures, tiling) if steps else Given()
    for batch in request.sampling.batches() if batches is None else batches:
        together = seeds[batch.first : batch.first + batch.size]
        if pictures.image is not None and not steps:
            painted = [pictures.image.copy() for _ in together]
        else:
            with _enough_memory(request, len(together)):
                said = [model.said(request.prompt, request.label)] * len(together)
                pixels = paint(model, said, together, request, on_step or keep, given, tiling)
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
    said: Sequence[str | int | None],
    seeds: Sequence[int],
    request: ImageRequest,
    on_step: OnStep = keep,
    given: Given | None = None,
    tiling: Tiling | None = None,
) -> Tensor:
    """One batch, picture i of what is said[i] and seeds[i], the rest as the resolved `request` says.

    `said`: prompts, or labels, or None, as `LatentDiffusion.said` tells.

    `given`: the request's pictures, if it has any; `tiling`: None for a new one, as the request says.
    Returns (B, 3, H, W), about [-1, 1].
    Half precision overflows where float32 does not: pictures that are not finite are done once more in float32,
    their decoding alone if it was that. UserError for what is not finite then, either.
    """
    half, draws = model.dtype in HALVES, model.dtype
    x = _sampled(model, said, seeds, request, on_step, given or Given(), draws)
    if half and (spoilt := not_finite(x)):
        # All of them: whoever watches or changes steps counts on the batch. What was finite stays as it was.
        painters = [painter for painter, _ in parts_of(model, request)]
        with in_float32(*(part for painter in painters for part in (painter.text, painter.unet))):
            again = _sampled(model, said, seeds, request, on_step, given or Given(), draws)
        x = x.float()
        x[spoilt] = again[spoilt]
    weight = f"{request.guidance.weight:g}"
    if model.task == "editing":
        weight += f" and {request.control.weight:g} by the picture"

    def refusal(i: int) -> str:
        return f"the picture of seed {seeds[i]} is not finite at guidance {weight}; choose less guidance or more steps"

    with decoding(model, request) as decoder:
        return decoded(decoder, x, refusal, tiling or Tiling(request.canvas.tiles))


def _sampled(
    model: LatentDiffusion,
    said: Sequence[str | int | None],
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
    plan, parts = whole_plan(model, request), parts_of(model, request)
    drawn = PictureNoise(seeds, model.latent_shape(canvas.width, canvas.height), draws, model.device)

    def noise(channels: int | None = None) -> Tensor:
        return drawn(channels).to(model.dtype)

    begun = begin(given, plan, noise, on_step)
    if len(parts) == 1:
        return _denoised(model, said, request, begun, plan, noise)

    def first(watch: OnStep) -> Tensor:
        return _denoised(model, said, request, replace(begun, on_step=watch), plan, noise)

    (_, until), (refiner, rest) = parts
    x = interrupted(first, until.calls, begun.on_step)
    model.rest()
    try:
        return _denoised(refiner, said, request, Begun(x, None, begun.on_step), rest, noise)
    finally:  # also where somebody cancels
        refiner.rest()


def _denoised(
    model: LatentDiffusion,
    said: Sequence[str | int | None],
    request: ImageRequest,
    begun: Begun,
    plan: Plan,
    noise: Noise,
) -> Tensor:
    """From the first x to where the plan ends, under what is said and all guidance."""
    sampling, guidance = request.sampling, request.guidance
    assert sampling.sampler is not None
    assert guidance.weight is not None

    def told(read: Callable[..., Condition], said: Sequence[str | int | None], *, negative: bool = False) -> Condition:
        micro = _micro(model, request, len(said), negative=negative)
        classes = {} if begun.labels is None else {"classes": begun.labels}
        return replace(_encode(read, said), micro=micro, channels=begun.channels, **classes)

    condition = told(model.text, said)
    methods: list[Guidance] = []
    editing = model.task == "editing"
    if guidance.weight != 1 or (editing and request.control.weight != 1):
        words = [guidance.negative] * len(said)
        negative = told(model.text.negative, words if model.reads_words else said, negative=True)
        if editing and begun.channels is not None:
            blind = replace(negative, channels=torch.zeros_like(begun.channels))
            methods = [ImageGuidance(negative, blind, guidance.weight, request.control.weight)]
        else:
            methods = [ClassifierFree(negative, guidance.weight)]
        if guidance.rescale:
            methods.append(Rescaled(guidance.rescale))
    run, denoise = find_sampler(sampling.sampler).run, model.denoiser(condition, methods, sampling.sampler)
    return run(denoise, begun.x, plan.steps, noise, begun.on_step, **plan.options)


def _encode(read: Callable[..., Condition], said: Sequence[str | int | None]) -> Condition:
    """Each distinct prompt is encoded once, so that a picture's words do not depend on its company either."""
    distinct = list(dict.fromkeys(said))
    return read(distinct).rows([distinct.index(one) for one in said])


def _micro(model: LatentDiffusion, request: ImageRequest, batch: int, *, negative: bool = False) -> Tensor | None:
    """The numbers beside the words (batch, k), None for a model that takes none."""
    micro = request.micro
    if not model.micro_count or micro.original is None or micro.target is None:
        return None
    score = micro.negative_aesthetic if negative else micro.aesthetic
    numbers = MicroNumbers(micro.original, micro.crop, micro.target, score)
    return numbers.tensor(model.micro_count, batch).to(model.device)


def _flags(model: LatentDiffusion, request: ImageRequest, painted: Sequence[Image.Image]) -> list[bool]:
    """What the safety checker says of finished pictures, if it is asked."""
    if not request.model.safety_check or model.safety_check is None:
        return [False] * len(painted)
    return model.safety_check(painted)
