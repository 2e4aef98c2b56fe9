"""`latentbrush evaluate fid` and its kin: the pictures of a folder or a model beside real ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from latentbrush.cli.options import filename, number, whole
from latentbrush.cli.progress import work_bar
from latentbrush.cli.shared import DeviceOption
from latentbrush.cli.spread import with_options
from latentbrush.errors import UserError, printable, short
from latentbrush.request import MAX_SIDE, GuidanceRequest, ImageRequest, Sampling

__all__ = ["COMMANDS", "UNPAINTED", "MeasureOptions", "check_options", "measure_all", "measure_command"]

OWN_OPTIONS = {
    "fid": ("intervals",),
    "kid": ("subset",),
    "prc": ("neighbours",),
    "is": ("splits",),
    "memorisation": ("held_out",),
    "reconstruction": ("lpips", "lpips_linear"),
    "bpd": ("bits_steps",),
}
"""What one command reads and the others do not."""
PAINTING = ("images", "steps", "sampler", "guidance")
UNREAD = {"reconstruction": PAINTING, "bpd": (*PAINTING, "extractor", "resize")}
"""What measures a model's parts by real pictures, so that nothing is painted, and what it therefore does not read."""
UNPAINTED = frozenset(UNREAD)
LEAST = {"count": 1, "size": 1, "batch_size": 1, "subset": 2, "neighbours": 1, "splits": 1, "bits_steps": 2}
"""Of options that are whole numbers."""
MOST = {"count": 10_000_000, "size": MAX_SIDE, "bits_steps": 1_000_000, "splits": 1_000_000}
"""Of the same, beyond which nobody would wait for the end."""

COMMANDS = {
    "fid": "Frechet distance of features, lower is better: FID where the features are Inception's.",
    "sfid": "The same of features of places: sFID, which sees where things lie.",
    "kid": "Kernel distance of features, whose expectation does not depend on the number of pictures.",
    "cmmd": "CLIP maximum mean discrepancy.",
    "is": "Inception score: how sure a classifier is, and how varied its answers are.",
    "prc": "Precision, recall, density and coverage by nearest neighbours; their intervals hold the other set fixed.",
    "clip-score": "How well pictures match their captions, by a CLIP.",
    "memorisation": "How near paintings are to what was trained on, beside real pictures that were not.",
    "reconstruction": "What the first stage loses: R-FID, PSNR, PSIM (LPIPS where given), SSIM, MS-SSIM.",
    "bpd": "Bits per dimension of real pictures, by the variational bound.",
}
"""As `latentbrush.studies.jobs` has them, for whoever asks before torch is there; composition has a command of its
own."""


@dataclass(frozen=True)
class MeasureOptions:
    """What a measuring command takes; each field is an option of its name."""

    model: Annotated[str | None, typer.Option(help="Measure what this model paints: a name, folder or file.")] = None
    images: Annotated[
        Path | None, typer.Option(parser=filename, help="Measure the pictures of this folder, or of ADM's .npz.")
    ] = None
    data: Annotated[
        Path | None,
        typer.Option(parser=filename, help="Real ones: a folder, whose captions a model paints, or an .npz."),
    ] = None
    split: Annotated[str | None, typer.Option(help="Of the data, only those of this split.")] = None
    count: Annotated[int | None, typer.Option(parser=whole, help="Pictures to measure; all, or one a caption.")] = None
    size: Annotated[
        int | None, typer.Option(parser=whole, help="Pixels a side to which folders are brought; the model's, or none.")
    ] = None
    extractor: Annotated[
        str,
        typer.Option(help="A CLIP's name or folder, a folder of transformers' vision models, or Inception's weights."),
    ] = "emoji-clip"
    resize: Annotated[str, typer.Option(help="Inception: tensorflow, as most papers, or clean, as clean-fid.")] = (
        "tensorflow"
    )
    seed: Annotated[int, typer.Option(parser=whole, help="Of paintings and subsets; picture i has seed + i.")] = 0
    steps: Annotated[int | None, typer.Option(parser=whole, help="Denoising steps, instead of the model's.")] = None
    sampler: Annotated[str | None, typer.Option(help="Instead of the model's.")] = None
    guidance: Annotated[float | None, typer.Option(parser=number, help="Instead of the model's; 1 is none.")] = None
    batch_size: Annotated[int, typer.Option(parser=whole, help="Pictures at once.")] = 64
    subset: Annotated[int | None, typer.Option(parser=whole, help="KID: pictures a subset; 1000, or half.")] = None
    neighbours: Annotated[int, typer.Option(parser=whole, help="Precision and recall: the k-th neighbour.")] = 3
    splits: Annotated[int, typer.Option(parser=whole, help="IS: parts.")] = 10
    intervals: Annotated[
        bool, typer.Option(help="The distance's 95% interval, for which all features are kept in memory.")
    ] = True
    held_out: Annotated[
        Path | None,
        typer.Option(parser=filename, help="Memorisation: real pictures never trained on; the data's other splits."),
    ] = None
    lpips: Annotated[
        Path | None, typer.Option(parser=filename, help="Reconstruction: VGG's or AlexNet's weights, for LPIPS.")
    ] = None
    lpips_linear: Annotated[
        Path | None, typer.Option(parser=filename, help="The same: LPIPS' linear weights, if in another file.")
    ] = None
    bits_steps: Annotated[int, typer.Option(parser=whole, help="Bits per dimension: steps of the bound.")] = 50
    device: DeviceOption = "auto"
    out: Annotated[
        Path | None, typer.Option(parser=filename, help="A new folder for metrics.json, with all it depends on.")
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier evaluation.")] = False

    def request(self) -> ImageRequest:
        return ImageRequest(
            prompt="",
            sampling=Sampling(steps=self.steps, sampler=self.sampler),
            guidance=GuidanceRequest(weight=self.guidance),
        )


def measure_command(name: str) -> Callable[..., None]:
    """The command of one metric, with the options that it reads."""

    def command(options: MeasureOptions) -> None:
        run([name], options)

    command.__doc__ = COMMANDS[name]
    own = OWN_OPTIONS.get(name, ())
    others = {option for options in OWN_OPTIONS.values() for option in options} - {*own}
    return with_options(command, MeasureOptions, without=(*others, *UNREAD.get(name, ())))


def measure_all(options: MeasureOptions) -> None:
    """Everything that the model, the pictures and the data allow, with one page of figures, plots and grids."""
    if options.out is None:
        raise UserError("--out is needed: a new folder for the page")
    run([*COMMANDS, "composition"], options, all_that_can=True)


def run(names: Sequence[str], options: MeasureOptions, *, all_that_can: bool = False) -> None:
    """Measure, print a table, and write metrics.json and a page where a folder is named.

    `all_that_can`: what cannot be measured is left out, and said why, as long as something can.
    """
    check_options(names, options)
    from latentbrush.cli.measuring import evaluation_of, report_folder, tell, write
    from latentbrush.evaluation.processes import processes
    from latentbrush.studies.jobs import JOBS, Further, Outcome

    further = Further((options.lpips, options.lpips_linear), options.bits_steps)
    outcomes: list[Outcome] = []
    notes: list[str] = []
    with processes() as team, report_folder(options, team) as new, work_bar() as on_part:
        evaluation = evaluation_of(names, options, team, on_part)
        for name in names:
            try:
                outcomes.append(JOBS[name](evaluation, further))
            except UserError as error:
                if not all_that_can:
                    raise
                notes.append(f"left out: {name}: {error}")
        if not outcomes:
            raise UserError("; ".join(notes))
        notes += evaluation.warnings(names)
        if new is not None:
            write(outcomes, notes, evaluation, new)
    if not team.speaks:
        return
    for note in notes:
        print(f"latentbrush: {printable(note)}", file=sys.stderr)
    tell([outcome.measurement for outcome in outcomes])
    if options.out is not None:
        print(options.out / "index.html")


def check_options(names: Sequence[str], options: MeasureOptions) -> None:
    """What is wrong with the options together, said before torch is imported."""
    if options.model is not None and options.images is not None:
        raise UserError("--model and --images are both given; choose whose paintings, or which folder's pictures")
    if options.model is None and options.images is None:
        raise UserError("one of --model and --images is needed: whose paintings, or which folder's pictures?")
    if options.model is not None and options.data is None:
        raise UserError("--data is needed with --model: the folder whose captions it paints")
    if options.images is not None:
        for name in ("steps", "sampler", "guidance"):
            if getattr(options, name) is not None:
                raise UserError(f"--{name} is of a model's paintings, and --images are there already; leave it out")
    for path in (options.images, options.data):
        if options.size is not None and path is not None and path.is_file():
            raise UserError(f"--size {options.size}: the pictures of {path} have their own size; leave it out")
    for name, least in LEAST.items():
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} {value} must be at least {least}")
    for name, most in MOST.items():
        value = getattr(options, name)
        if value is not None and value > most:
            raise UserError(f"--{name.replace('_', '-')} {short(value)} must be at most {most}")
    if options.split is not None and options.data is not None and options.data.is_file():
        raise UserError(f"--split {short(options.split)}: {options.data} has no splits; give a folder, or leave it out")
    if options.held_out is not None and options.data is not None and options.data.is_file():
        raise UserError(f"--held-out: {options.data} says not what was trained on; give a folder as --data")
    if not 0 <= options.seed < 2**63:
        raise UserError(f"--seed {options.seed} must be from 0 to 2^63 - 1")
