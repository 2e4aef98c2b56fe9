"""The options that all painting commands share, declared once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentbrush.cli.options import Offset, filename, number, offset, size, tiling, whole
from latentbrush.cli.spread import with_options
from latentbrush.errors import short
from latentbrush.request import (
    SAMPLER_CHOICES,
    SIGMA_CHOICES,
    TILES_BEYOND,
    Canvas,
    GuidanceRequest,
    ImageRequest,
    Micro,
    ModelRequest,
    Sampling,
    Start,
)

if TYPE_CHECKING:  # it imports torch
    from latentbrush.model import LatentDiffusion

__all__ = [
    "XL_OPTIONS",
    "AnimateOption",
    "DeviceOption",
    "DtypeOption",
    "LowMemoryOption",
    "NoMetadataOption",
    "PaintOptions",
    "StripOption",
    "print_left_out",
    "print_notes",
    "with_paint_options",
]

DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps, ...: where to compute.")]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, float16, bfloat16 or float64: how precisely.")]
LowMemoryOption = Annotated[bool, typer.Option("--low-memory", help="Keep on the device only the network at work.")]
StripOption = Annotated[bool, typer.Option("--strip", help="Beside each picture, one that shows its way from noise.")]
AnimateOption = Annotated[bool, typer.Option("--animate", help="The same as an animated WebP.")]
NoMetadataOption = Annotated[bool, typer.Option("--no-metadata", help="PNGs without text; they cannot be reproduced.")]


XL_OPTIONS = ("original_size", "crop", "target_size", "aesthetic", "negative_aesthetic")
"""What only Stable Diffusion XL is told."""


@dataclass(frozen=True)
class PaintOptions:
    """What a painting command takes beside its own arguments; each field is an option of its name."""

    negative: Annotated[str, typer.Option(help="What to move away from.")] = ""
    model: Annotated[
        str, typer.Option(help="A shipped model's name, a diffusers folder, or a .safetensors or .ckpt.")
    ] = "emoji"
    prediction: Annotated[
        str | None, typer.Option(help="epsilon, v_prediction or sample, whatever the model says.")
    ] = None
    weights: Annotated[str | None, typer.Option(help="ema or raw, of a single file that has both.")] = None
    fast_decoder: Annotated[
        Path | None, typer.Option(parser=filename, help="The folder of a tiny autoencoder (TAESD) to decode by.")
    ] = None
    vae: Annotated[
        Path | None, typer.Option(parser=filename, help="A folder or file of an autoencoder, instead of the model's.")
    ] = None
    safety_check: Annotated[
        bool, typer.Option("--safety-check", help="What the model's own safety checker flags becomes black.")
    ] = False
    steps: Annotated[int | None, typer.Option(parser=whole, help="Denoising steps.")] = None
    sampler: Annotated[str | None, typer.Option(help=f"One of {', '.join(SAMPLER_CHOICES)}.")] = None
    sigmas: Annotated[str | None, typer.Option(help=f"How noise falls: {', '.join(SIGMA_CHOICES)}.")] = None
    guidance: Annotated[float | None, typer.Option(parser=number, help="1 is none.")] = None
    guidance_rescale: Annotated[
        float, typer.Option(parser=number, help="0 to 1: against too much contrast; 0.7 as published.")
    ] = 0.0
    seed: Annotated[int | None, typer.Option(parser=whole, help="Random, and printed, by default.")] = None
    count: Annotated[int, typer.Option(parser=whole, help="Pictures; picture i starts from seed + i.")] = 1
    canvas: Annotated[Canvas | None, typer.Option("--size", parser=size, metavar="WxH", help="In pixels.")] = None
    tiles: Annotated[
        str,
        typer.Option(
            parser=tiling,
            help="auto, on or off: large pictures in tiles that overlap, one at a time; auto is on beyond "
            f"{TILES_BEYOND:,} pixels, or where memory runs out.",
        ),
    ] = Canvas().tiles
    original_size: Annotated[
        Canvas | None,
        typer.Option(parser=size, metavar="WxH", help="Stable Diffusion XL: of the photograph imitated; small blurs."),
    ] = None
    crop: Annotated[
        Offset | None,
        typer.Option(parser=offset, metavar="X,Y", help="The same: what it lacks at the left and above; 0,0 centres."),
    ] = None
    target_size: Annotated[
        Canvas | None, typer.Option(parser=size, metavar="WxH", help="The same: what it was scaled to.")
    ] = None
    aesthetic: Annotated[
        float, typer.Option(parser=number, help="0 to 10, which Stable Diffusion XL's refiner is told.")
    ] = Micro().aesthetic
    negative_aesthetic: Annotated[
        float, typer.Option(parser=number, help="The same, told with what to move away from.")
    ] = Micro().negative_aesthetic
    batch_size: Annotated[int, typer.Option(parser=whole, help="Pictures painted at once.")] = Sampling().batch_size
    device: DeviceOption = "auto"
    dtype: DtypeOption = "auto"
    low_memory: LowMemoryOption = False
    out: Annotated[Path | None, typer.Option(parser=filename, help="A PNG file or a folder; out/ by default.")] = None
    strip: StripOption = False
    animate: AnimateOption = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing pictures.")] = False
    no_metadata: NoMetadataOption = False

    def request(self, prompt: str, start: Start | None = None, label: int | None = None) -> ImageRequest:
        """pydantic's ValidationError for values that no request can have."""
        return ImageRequest(
            prompt=prompt,
            label=label,
            model=ModelRequest.model_validate(
                {
                    "name": self.model,
                    "dtype": None if self.dtype == "auto" else self.dtype,
                    "prediction": self.prediction,
                    "weights": self.weights,
                    "fast_decoder": None if self.fast_decoder is None else str(self.fast_decoder),
                    "safety_check": self.safety_check,
                    "vae": None if self.vae is None else str(self.vae),
                }
            ),
            canvas=Canvas.model_validate({**(self.canvas or Canvas()).model_dump(), "tiles": self.tiles}),
            sampling=Sampling(
                sampler=self.sampler,
                sigmas=self.sigmas,
                steps=self.steps,
                seed=self.seed,
                count=self.count,
                batch_size=self.batch_size,
            ),
            guidance=GuidanceRequest(weight=self.guidance, negative=self.negative, rescale=self.guidance_rescale),
            start=start or Start(),
            micro=Micro(
                original=_sides(self.original_size),
                crop=Micro().crop if self.crop is None else (self.crop.x, self.crop.y),
                target=_sides(self.target_size),
                aesthetic=self.aesthetic,
                negative_aesthetic=self.negative_aesthetic,
            ),
        )

    def load(self, request: ImageRequest) -> LatentDiffusion:
        """The request's model, where and as the options say."""
        from latentbrush.formats import load_for

        model = load_for(
            request,
            device=self.device,
            dtype=self.dtype,
            low_memory=self.low_memory,
            sampler=request.sampling.sampler,
        )
        print_notes(model, request)
        return model


def print_notes(model: LatentDiffusion, request: ImageRequest) -> None:
    """How the model and its parts were read, where their files do not say all about themselves."""
    read = [(request.model.name, model.origin)]
    if model.exchanged is not None:
        read.append((model.exchanged.name, model.exchanged.origin))
    if model.refiner is not None:
        read += [(stage.model, model.refiner.origin) for stage in request.stages]
    for name, origin in read:
        if origin is not None and origin.note:
            print(f"latentbrush: {name}: {origin.note}", file=sys.stderr)


def print_left_out(model: LatentDiffusion, request: ImageRequest) -> None:
    """What of its prompts the model will not see."""
    for name, prompt in (("prompt", request.prompt), ("negative prompt", request.guidance.negative)):
        if left_out := model.text.cut(prompt):
            print(f"latentbrush: the {name} is too long; left out: {short(left_out)}", file=sys.stderr)


def _sides(canvas: Canvas | None) -> tuple[int, int] | None:
    return None if canvas is None or canvas.width is None or canvas.height is None else (canvas.width, canvas.height)


def with_paint_options(command: Callable[..., None], *, without: Collection[str] = ()) -> Callable[..., None]:
    """The command with an option for each field of `PaintOptions`, but those it is `without`, instead of its parameter
    `options`."""
    return with_options(command, PaintOptions, without)
