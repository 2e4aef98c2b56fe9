"""The one pipeline: an `ImageRequest` and a model -> pictures."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from latentbrush.data.pixels import to_bytes
from latentbrush.diffusion import (
    ClassifierFree,
    OnStep,
    PictureNoise,
    find_sampler,
    keep,
    make_plan,
    picture_seeds,
)
from latentbrush.errors import UserError
from latentbrush.model import LatentDiffusion
from latentbrush.nn import Condition
from latentbrush.request import Canvas, GuidanceRequest, ImageRequest

__all__ = ["GeneratedImage", "generate", "paint", "resolve", "stream", "to_image"]


@dataclass(frozen=True)
class GeneratedImage:
    """A finished picture: the seed of its noise, its place in the request, and the request as served."""

    image: Image.Image
    seed: int
    index: int
    request: ImageRequest


def generate(model: LatentDiffusion, request: ImageRequest, on_step: OnStep | None = None) -> list[GeneratedImage]:
    """Paint what `request` says; picture i starts from the noise of seed + i.

    `on_step(x, level, denoised) -> x` is called after every network call of every batch, with latents
    (B, c, h, w): to watch, to change, or to cancel by raising. UserError for what the model cannot do.
    """
    return list(stream(model, request, on_step))


def stream(model: LatentDiffusion, request: ImageRequest, on_step: OnStep | None = None) -> Iterator[GeneratedImage]:
    """As `generate`, but hands out pictures as their batches are finished, so that none waits for the last."""
    request = resolve(model, request)
    assert request.sampling.seed is not None
    seeds = picture_seeds(request.sampling.seed, request.sampling.count)
    at_once = request.sampling.batch_size
    for start in range(0, len(seeds), at_once):
        batch = seeds[start : start + at_once]
        try:
            pixels = paint(model, [request.prompt] * len(batch), batch, request, on_step or keep)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _is_out_of_memory(error):
                raise
            size = f"{request.canvas.width}x{request.canvas.height}"
            raise UserError(f"not enough memory for {len(batch)} at once of {size}; choose fewer or smaller") from error
        for i, (seed, picture) in enumerate(zip(batch, pixels, strict=True), start):
            yield GeneratedImage(to_image(picture), seed, i, request)


@torch.inference_mode()
def paint(
    model: LatentDiffusion,
    prompts: Sequence[str],
    seeds: Sequence[int],
    request: ImageRequest,
    on_step: OnStep = keep,
) -> Tensor:
    """One batch, picture i of prompts[i] and seeds[i], the rest as the resolved `request` says.

    Returns (B, 3, H, W), about [-1, 1].
    """
    canvas, sampling, guidance = request.canvas, request.sampling, request.guidance
    if not (canvas.width and canvas.height and sampling.steps and sampling.sampler) or guidance.weight is None:
        raise ValueError("paint needs a resolved request; call resolve(model, request) first")
    condition = _encode(model, prompts)
    methods = []
    if guidance.weight != 1:
        methods = [ClassifierFree(_encode(model, [guidance.negative] * len(seeds)), guidance.weight)]
    plan = make_plan(sampling.sampler, model.schedule, sampling.steps, model.plan_config(sampling.sampler))
    noise = PictureNoise(seeds, model.latent_shape(canvas.width, canvas.height), model.dtype, model.device)
    x = noise() * plan.start_scale
    run = find_sampler(sampling.sampler).run
    x = run(model.denoiser(condition, methods), x, plan.steps, noise, on_step, **plan.options)
    pixels = model.autoencoder.decode(x)
    if not bool(pixels.isfinite().all()):
        raise UserError(
            f"the picture is not finite at guidance {guidance.weight:g}; choose less guidance or more steps"
        )
    return pixels


def _encode(model: LatentDiffusion, prompts: Sequence[str]) -> Condition:
    """Each distinct prompt is encoded once, so that a picture's words do not depend on its company either."""
    distinct = list(dict.fromkeys(prompts))
    context = model.text(distinct).context
    return Condition(context=context[[distinct.index(prompt) for prompt in prompts]])


def _is_out_of_memory(error: RuntimeError) -> bool:
    """torch has a type of its own for GPUs; on the CPU only the text says so."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def resolve(model: LatentDiffusion, request: ImageRequest) -> ImageRequest:
    """The request with every None filled in: from the model's defaults, and a random seed.

    UserError where the model cannot serve it: a size that f does not divide, an unknown sampler, more steps
    than it was trained with, seeds that run out.
    """
    defaults, sampling = model.defaults, request.sampling
    width, height = request.canvas.width or defaults.width, request.canvas.height or defaults.height
    seed = secrets.randbelow(2**32) if sampling.seed is None else sampling.seed
    weight = request.guidance.weight
    sampler = model.sampler if sampling.sampler is None else sampling.sampler
    steps = defaults.steps if sampling.steps is None else sampling.steps
    # Asked now, so that nothing is refused when half the work is done.
    model.latent_shape(width, height)
    make_plan(sampler, model.schedule, steps, model.plan_config(sampler))
    picture_seeds(seed, sampling.count)
    return request.model_copy(
        update={
            "canvas": Canvas(width=width, height=height),
            "sampling": sampling.model_copy(update={"sampler": sampler, "steps": steps, "seed": seed}),
            "guidance": GuidanceRequest(
                weight=defaults.guidance if weight is None else weight, negative=request.guidance.negative
            ),
        }
    )


def to_image(pixels: Tensor) -> Image.Image:
    """(3, H, W) in [-1, 1] -> an RGB picture."""
    return Image.fromarray(to_bytes(pixels).permute(1, 2, 0).contiguous().cpu().numpy())
