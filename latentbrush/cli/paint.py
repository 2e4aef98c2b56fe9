"""`latentbrush txt2img`: from a prompt to PNG files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from latentbrush.cli.options import number, size, whole
from latentbrush.cli.progress import steps_bar
from latentbrush.request import Canvas, GuidanceRequest, ImageRequest, ModelRequest, Sampling

__all__ = ["txt2img"]


def txt2img(
    prompt: Annotated[str, typer.Argument(help="What to paint.")],
    negative: Annotated[str, typer.Option(help="What to move away from.")] = "",
    model: Annotated[str, typer.Option(help="A shipped model's name, or a diffusers folder.")] = "emoji",
    steps: Annotated[int | None, typer.Option(parser=whole, help="Denoising steps.")] = None,
    sampler: Annotated[str | None, typer.Option(help="ddim, euler or dpmpp_2m.")] = None,
    guidance: Annotated[float | None, typer.Option(parser=number, help="1 is none.")] = None,
    seed: Annotated[int | None, typer.Option(parser=whole, help="Random, and printed, by default.")] = None,
    count: Annotated[int, typer.Option(parser=whole, help="Pictures; picture i starts from seed + i.")] = 1,
    canvas: Annotated[Canvas | None, typer.Option("--size", parser=size, metavar="WxH", help="In pixels.")] = None,
    out: Annotated[Path | None, typer.Option(help="A PNG file or a folder; out/ by default.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing pictures.")] = False,
) -> None:
    """Paint PROMPT. Steps, guidance, sampler and size are the model's unless given."""
    request = ImageRequest(
        prompt=prompt,
        model=ModelRequest(name=model),
        canvas=canvas or Canvas(),
        sampling=Sampling(sampler=sampler, steps=steps, seed=seed, count=count),
        guidance=GuidanceRequest(weight=guidance, negative=negative),
    )
    paint_to_files(request, out, overwrite=overwrite)


def paint_to_files(request: ImageRequest, out: Path | None, *, overwrite: bool) -> None:
    """Serve a request into PNG files; refuses what cannot be written before any work is done."""
    from latentbrush.formats import check_writable, load_model, output_paths, save_picture
    from latentbrush.pipeline import resolve, stream

    model = load_model(request.model.name, sampler=request.sampling.sampler)
    request = resolve(model, request)
    paths = output_paths(out, request)
    check_writable(paths, overwrite=overwrite)
    for name, prompt in (("prompt", request.prompt), ("negative prompt", request.guidance.negative)):
        if left_out := model.text.cut(prompt):
            print(f"latentbrush: the {name} is too long; left out: {left_out!r}", file=sys.stderr)
    with steps_bar(request) as on_step:
        for image, path in zip(stream(model, request, on_step), paths, strict=True):
            save_picture(image.image, path, image.request, index=image.index)
            print(f"{path} (seed {image.seed})")
