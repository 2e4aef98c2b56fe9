"""`latentbrush info`: what a model is, without loading it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latentbrush.cli.options import filename, size, tiling, whole
from latentbrush.cli.tables import print_table
from latentbrush.errors import UserError
from latentbrush.request import Canvas, ModelRequest, Sampling

if TYPE_CHECKING:  # formats imports torch
    from latentbrush.formats import AloneSummary, ModelSummary

__all__ = ["info"]


def info(
    model: Annotated[
        str, typer.Argument(help="A shipped model's name, a diffusers folder, or a single file.")
    ] = "emoji",
    sampler: Annotated[str | None, typer.Option(help="Instead of the one that the folder names.")] = None,
    prediction: Annotated[str | None, typer.Option(help="epsilon, v_prediction or sample, whatever it says.")] = None,
    weights: Annotated[str | None, typer.Option(help="ema or raw, of a single file that has both.")] = None,
    config: Annotated[
        Path | None, typer.Option(parser=filename, help="A folder whose settings describe a single file.")
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Predict the memory of painting, too.")] = False,
    canvas: Annotated[
        Canvas | None, typer.Option("--size", parser=size, metavar="WxH", help="Of --memory; the model's by default.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(parser=whole, help="Of --memory: pictures at once; 1.")] = None,
    tiles: Annotated[
        str | None, typer.Option(parser=tiling, help="Of --memory: auto, on or off, as in painting; auto.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON; sizes in bytes.")] = False,
) -> None:
    """Tell what MODEL is: its parts and their sizes, schedule, sampler, defaults, tokens and latents."""
    chosen = ModelRequest.model_validate({"name": model, "prediction": prediction, "weights": weights})
    if not memory and (canvas is not None or batch_size is not None or tiles is not None):
        raise UserError("--size, --batch-size and --tiles tell of which painting to predict the memory; add --memory")
    at_once = Sampling.model_validate({"batch_size": 1 if batch_size is None else batch_size}).batch_size
    from latentbrush.formats import summarise, summarise_alone

    alone = summarise_alone(chosen.name, config)
    if alone is not None:
        if memory or sampler or prediction or weights:
            raise UserError(
                f"{model} is a part of a model, which paints nothing by itself; give --json and --config alone"
            )
        print(json.dumps(asdict(alone), indent=2, ensure_ascii=False)) if as_json else _print_alone(alone)
        return
    summary = summarise(
        chosen.name, sampler=sampler, prediction=chosen.prediction, weights=chosen.weights, config=config
    )
    how = Canvas.model_validate({**(canvas or Canvas()).model_dump(), "tiles": tiles or Canvas().tiles})
    costs = _memory(chosen, config, how, at_once) if memory else {}
    if as_json:
        told = asdict(summary) | ({"painting": costs} if memory else {})
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return
    _print(summary)
    for dtype, cost in costs.items():
        print(f"\nmemory of painting {cost['batch_size']} of {cost['width']}x{cost['height']} at once in {dtype}")
        print_table(
            [
                *((f"weights: {part}", megabytes(count)) for part, count in cost["weights"].items()),
                *((f"largest activations: {call}", megabytes(count)) for call, count in cost["activations"].items()),
                ("peak", megabytes(cost["peak"])),
                ("peak on the device with --low-memory", megabytes(cost["peak_low_memory"])),
            ]
        )


def _memory(chosen: ModelRequest, config: Path | None, canvas: Canvas, batch: int) -> dict[str, dict[str, Any]]:
    """Number type -> what painting takes in it, in bytes."""
    import torch

    from latentbrush.formats import outline_model
    from latentbrush.viewing import painting_memory

    model = outline_model(chosen.name, prediction=chosen.prediction, weights=chosen.weights, config=config)
    width, height = canvas.width or model.defaults.width, canvas.height or model.defaults.height
    costs = {}
    for name in ("float32", "float16"):
        cost = painting_memory(model.to(dtype=getattr(torch, name)), width, height, batch, tiles=canvas.tiles)
        peaks = {"peak": cost.peak, "peak_low_memory": cost.peak_low_memory}
        costs[name] = {"width": width, "height": height, "batch_size": batch, **asdict(cost), **peaks}
    return costs


def _print(summary: ModelSummary) -> None:
    print(f"{summary.model}: {summary.folder}\n")
    rows = [
        (part.name, part.kind, f"{part.parameters:,}", megabytes(part.size), ", ".join(part.dtypes))
        for part in summary.parts
    ]
    print_table(
        [*rows, ("all", "", f"{summary.parameters:,}", megabytes(summary.size), "")],
        columns=("part", "what it is", "parameters", "on disk", "stored as"),
        right=("parameters", "on disk"),
    )
    print()
    print_table(_facts(summary))


def _print_alone(alone: AloneSummary) -> None:
    part = alone.part
    print(f"{alone.model}: {alone.folder}\n")
    print_table(
        [(part.name, part.kind, f"{part.parameters:,}", megabytes(part.size), ", ".join(part.dtypes))],
        columns=("part", "what it is", "parameters", "on disk", "stored as"),
        right=("parameters", "on disk"),
    )
    print()
    told = [("read as", alone.told)] if alone.told else []
    print_table([*told, *((name, str(fact)) for name, fact in alone.facts.items())])


def _facts(summary: ModelSummary) -> list[tuple[str, str]]:
    schedule, sampler, defaults = summary.schedule, summary.sampler, summary.defaults
    latents = summary.latents
    betas = f", beta {schedule['beta_start']:g} to {schedule['beta_end']:g}" if schedule["beta_start"] else ""
    eta = f", eta {sampler['eta']:g}" if sampler["eta"] else ""
    f = latents["factor"]
    told = [("read as", summary.told)] if summary.told else []
    return [
        *told,
        ("family", summary.family),
        ("schedule", f"{schedule['kind']}, {schedule['train_steps']} steps{betas}"),
        ("last level", "pure noise (zero terminal SNR)" if schedule["zero_terminal_snr"] else "not quite pure noise"),
        ("prediction", summary.prediction),
        ("sampler", f"{sampler['name']}, {sampler['spacing']} spacing{eta}"),
        (
            "defaults",
            f"{defaults['steps']} steps, guidance {defaults['guidance']:g}, "
            f"{defaults['width']}x{defaults['height']} pixels",
        ),
        ("latents", f"{latents['channels']} channels of {latents['width']}x{latents['height']}, f = {f}"),
        *_told(summary),
        ("weights in memory", ", ".join(f"{megabytes(size)} as {dtype}" for dtype, size in summary.memory.items())),
    ]


def _told(summary: ModelSummary) -> list[tuple[str, str]]:
    """What a request tells it: words, the number of a class, or nothing."""
    tokens = summary.tokens
    if tokens:
        wide = f"context {tokens['context_width']} wide"
        return [("tokens", f"{tokens['positions']} a prompt, of {tokens['vocabulary']:,}; {wide}")]
    if summary.classes is not None:
        return [("labels", f"0 to {summary.classes - 1}")]
    return [("tokens", "none: it reads no words")]


def megabytes(size: int) -> str:
    """Bytes in MB of a million, as disks are sold."""
    return f"{size / 1e6:,.1f} MB"
