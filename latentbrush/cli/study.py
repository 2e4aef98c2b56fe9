"""`latentbrush study`: a paper's table or plot, made anew on the emoji world."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentbrush.cli.options import filename

if TYPE_CHECKING:  # studies import torch
    from latentbrush.studies.study import Study

__all__ = ["study_app"]

study_app = typer.Typer(help="Make a paper's table or plot anew.", rich_markup_mode=None)

OutOption = Annotated[Path, typer.Option(parser=filename, help="A new folder: index.html, study.json, plots, cells.")]
PlanOption = Annotated[bool, typer.Option("--plan", help="Say what would be done and what it would cost, and end.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the study in the folder.")]


@study_app.callback()
def _study() -> None:
    """Make a paper's table or plot anew."""


def carry_out(study: Study, out: Path, *, plan: bool, resume: bool) -> None:
    """Print the plan, or do what is not done yet, cell by cell, and write the page."""
    from latentbrush.reporting import report_libraries
    from latentbrush.studies.study import StudyRun

    if plan:
        _print_plan(study)
        return
    report_libraries()
    run = StudyRun(study, out, resume=resume)
    run.begin()
    left = run.remaining()
    for i, cell in enumerate(left, 1):
        began = time.monotonic()
        run.do(cell)
        print(f"{i} of {len(left)}: {cell.name} in {time.monotonic() - began:.0f} s", flush=True)
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
