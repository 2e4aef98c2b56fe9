"""`latentbrush study`: a paper's table or plot, made anew on the emoji world."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentbrush.cli.options import filename, number, whole
from latentbrush.cli.shared import DeviceOption
from latentbrush.errors import UserError, short

if TYPE_CHECKING:  # studies import torch
    from latentbrush.studies.study import Study

__all__ = ["study_app"]

MOST_CALLS = 1000
"""A schedule's levels, as nearly all models have them."""
MOST_SEED, MOST_TRAINING_SEED = 2**62, 2**31 - 1

study_app = typer.Typer(help="Make a paper's table or plot anew.", rich_markup_mode=None)

OutOption = Annotated[
    Path | None, typer.Option(parser=filename, help="A new folder: index.html, study.json, plots, cells.")
]
PlanOption = Annotated[bool, typer.Option("--plan", help="Say what would be done and what it would cost, and end.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the study in the folder.")]


@study_app.callback()
def _study() -> None:
    """Make a paper's table or plot anew."""


@study_app.command()
def steps(
    out: OutOption = None,
    model: Annotated[str, typer.Option(help="A shipped model's name, or a diffusers folder.")] = "emoji",
    data: Annotated[
        Path,
        typer.Option(parser=filename, help="Pictures and captions that the model was trained on (metadata.jsonl)."),
    ] = Path("data/emoji"),
    pictures: Annotated[int, typer.Option(parser=whole, help="Captions, each painted once in every cell.")] = 256,
    samplers: Annotated[
        str | None, typer.Option(help="Such as ddim,heun,heun-karras, instead of all, some with Karras's sigmas.")
    ] = None,
    calls: Annotated[str, typer.Option(help="Network calls a picture, with commas between.")] = "5,10,20,50",
    seed: Annotated[int, typer.Option(parser=whole, help="Of the captions' draw, and of the first picture.")] = 0,
    guidance: Annotated[float | None, typer.Option(parser=number, help="Instead of the model's; 1 is none.")] = None,
    converged: Annotated[int, typer.Option(parser=whole, help="Network calls of the converged pictures.")] = 500,
    extractor: Annotated[str, typer.Option(help="As `latentbrush evaluate` takes it.")] = "emoji-clip",
    device: DeviceOption = "auto",
    plan: PlanOption = False,
    resume: ResumeOption = False,
) -> None:
    """How many network calls does a picture need, by which sampler?

    Fréchet distance to the training pictures, and distance to the converged picture, for every sampler. At a paper's
    scale: --model FOLDER --data FOLDER --pictures 5000.
    """
    budgets = _whole_numbers(calls)
    _check_seed(seed, MOST_SEED)
    from latentbrush.data.folder import ImageFolder
    from latentbrush.evaluation.opening import open_extractor
    from latentbrush.formats import load_model
    from latentbrush.studies.steps import ROUTES, StepsStudy, parse_routes

    routes = ROUTES if samplers is None else parse_routes(samplers)
    folder, loaded = ImageFolder(data), load_model(model, device=device)
    study = StepsStudy(
        loaded,
        folder,
        open_extractor(extractor, loaded.device),
        pictures=pictures,
        routes=routes,
        budgets=budgets,
        seed=seed,
        guidance=guidance,
        converged=converged,
    )
    carry_out(study, out, plan=plan, resume=resume)


@study_app.command()
def zoo(
    out: OutOption = None,
    data: Annotated[
        Path, typer.Option(parser=filename, help="The emoji world, as `latentbrush data emoji` draws it.")
    ] = Path("data/emoji"),
    settings: Annotated[
        str | None, typer.Option(help="Such as kl-f4-c3,vq-f8-n256-c4, instead of all sixteen; --plan names them.")
    ] = None,
    steps: Annotated[int, typer.Option(parser=whole, help="Of training, for every setting.")] = 2000,
    seed: Annotated[int, typer.Option(parser=whole, help="Of weights, batches and noise.")] = 0,
    device: DeviceOption = "auto",
    plan: PlanOption = False,
    resume: ResumeOption = False,
) -> None:
    """What does a first stage lose, by factor, regulariser and codebook?

    The sixteen autoencoders of LDM's table 8, scaled to the emoji world, trained alike and measured.
    """
    from latentbrush.devices import choose_device
    from latentbrush.studies.zoo import ZOO, settings_named
    from latentbrush.studies.zoo_bench import ZooBench
    from latentbrush.studies.zoo_study import ZooStudy

    _check_seed(seed, MOST_TRAINING_SEED)
    if steps < 1:
        raise UserError(f"--steps {steps} must be at least 1")
    chosen = ZOO if settings is None else settings_named(settings)
    bench = ZooBench(data, steps=steps, seed=seed, device=choose_device(device))
    carry_out(ZooStudy(bench, chosen), out, plan=plan, resume=resume)


@study_app.command("rate-distortion")
def rate_distortion(
    out: OutOption = None,
    model: Annotated[str, typer.Option(help="A shipped model's name, or a diffusers folder.")] = "emoji",
    data: Annotated[
        Path,
        typer.Option(parser=filename, help="Pictures with a field split, of which train is what it was trained on."),
    ] = Path("data/emoji"),
    pictures: Annotated[int, typer.Option(parser=whole, help="Of each part, as far as there are so many.")] = 256,
    bits_steps: Annotated[int, typer.Option(parser=whole, help="Of the bound; more are tighter.")] = 100,
    seed: Annotated[int, typer.Option(parser=whole, help="Of the first picture's noise.")] = 0,
    extractor: Annotated[str, typer.Option(help="A shipped CLIP's name, or a folder of one.")] = "emoji-clip",
    device: DeviceOption = "auto",
    plan: PlanOption = False,
    resume: ResumeOption = False,
) -> None:
    """What do the bits of a picture buy?

    Distortion against bits per dimension: diffusion level by level, the first stage, JPEG and PNG. At a paper's
    scale: --model FOLDER --data FOLDER --pictures 5000 --bits-steps 1000.
    """
    from latentbrush.data.folder import ImageFolder
    from latentbrush.evaluation.clip_extractor import CLIPExtractor
    from latentbrush.formats import load_model
    from latentbrush.studies.rate_distortion import RateDistortionStudy

    _check_seed(seed, MOST_SEED)
    folder, loaded = ImageFolder(data), load_model(model, device=device)
    features = CLIPExtractor(extractor, loaded.device)
    study = RateDistortionStudy(loaded, folder, features, pictures=pictures, steps=bits_steps, seed=seed)
    carry_out(study, out, plan=plan, resume=resume)


@study_app.command()
def compression(
    out: OutOption = None,
    data: Annotated[
        Path, typer.Option(parser=filename, help="The emoji world, as `latentbrush data emoji` draws it.")
    ] = Path("data/emoji"),
    factors: Annotated[str, typer.Option(help="Of compression, with commas between; 1 is none.")] = "1,2,4,8,16,32",
    steps: Annotated[int, typer.Option(parser=whole, help="Of training, for every factor.")] = 4000,
    stage_steps: Annotated[int, typer.Option(parser=whole, help="Of training each first stage.")] = 1000,
    zoo: Annotated[
        Path | None, typer.Option(parser=filename, help="A finished `study zoo`, to take its first stages.")
    ] = None,
    measures: Annotated[int, typer.Option(parser=whole, help="How often each training is measured.")] = 10,
    pictures: Annotated[int, typer.Option(parser=whole, help="Painted at each measurement.")] = 192,
    seed: Annotated[int, typer.Option(parser=whole, help="Of weights, batches, captions and noise.")] = 0,
    extractor: Annotated[str, typer.Option(help="A shipped CLIP's name, or a folder of one.")] = "emoji-clip",
    device: DeviceOption = "auto",
    plan: PlanOption = False,
    resume: ResumeOption = False,
) -> None:
    """How far should a first stage compress?

    LDM-1 to LDM-32: Fréchet distance against training compute, a diffusion model for each factor, all of as many
    parameters and steps.
    """
    from latentbrush.devices import choose_device
    from latentbrush.evaluation.clip_extractor import CLIPExtractor
    from latentbrush.studies.compression import CompressionStudy, parse_factors

    _check_seed(seed, MOST_TRAINING_SEED)
    chosen, where = parse_factors(factors), choose_device(device)
    study = CompressionStudy(
        data,
        CLIPExtractor(extractor, where),
        factors=chosen,
        steps=steps,
        stage_steps=stage_steps,
        measures=measures,
        pictures=pictures,
        seed=seed,
        zoo=zoo,
        device=where,
    )
    carry_out(study, out, plan=plan, resume=resume)


def _whole_numbers(text: str) -> list[int]:
    """Of at least 1, with commas between them."""
    try:
        numbers = [whole(part.strip()) for part in text.split(",")]
    except typer.BadParameter as error:
        raise UserError(f"--calls {short(text)}: {error.message}, with commas between them") from None
    if not 1 <= min(numbers) <= max(numbers) <= MOST_CALLS:
        raise UserError(f"--calls {short(text)}: choose numbers from 1 to {MOST_CALLS}")
    return numbers


def _check_seed(seed: int, most: int) -> None:
    """Asked before a folder is begun, which could not go on with another."""
    if not 0 <= seed <= most:
        raise UserError(f"--seed {short(seed)} must be from 0 to {most}")


def carry_out(study: Study, out: Path | None, *, plan: bool, resume: bool) -> None:
    """Print the plan, or do what is not done yet, cell by cell, and write the page."""
    from latentbrush.reporting import report_libraries
    from latentbrush.studies.study import StudyRun

    if plan:
        _print_plan(study)
        return
    if out is None:
        raise UserError("--out is needed: a new folder for the study; --plan says what it would cost")
    report_libraries()
    run = StudyRun(study, out, resume=resume)
    run.begin()
    left = run.remaining()
    began, done = time.monotonic(), 0.0
    for i, cell in enumerate(left, 1):
        rest = sum(other.work for other in left[i - 1 :])
        took = time.monotonic() - began
        told = f", about {_spoken(took * rest / done)} left for all" if done else ""
        print(f"{i} of {len(left)}: {cell.name} ({cell.what}){told}", file=sys.stderr, flush=True)
        try:
            run.do(cell)
        except KeyboardInterrupt:
            print("latentbrush: what is done is kept; go on with --resume", file=sys.stderr)
            raise
        done += cell.work
    run.write()
    print(out / "index.html")


def _print_plan(study: Study) -> None:
    from latentbrush.cli.tables import print_table

    rate, cells = study.rate(), study.cells()
    rows = [[cell.name, cell.what, f"{cell.work:,.0f}", _spoken(cell.work / rate)] for cell in cells]
    whole = sum(cell.work for cell in cells)
    rows.append(["all", "", f"{whole:,.0f}", _spoken(whole / rate)])
    columns = ("cell", "what", study.unit, "about")
    print_table(rows, columns=columns, right=columns[2:])


def _spoken(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
