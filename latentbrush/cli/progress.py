"""Progress bars on standard error; where that is no terminal, only training prints a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:  # a watcher needs no torch to be defined
    from torch import Tensor

    from latentbrush.diffusion import Denoised, Level, OnStep
    from latentbrush.training import TrainingProgress

__all__ = ["count_bar", "steps_bar", "training_bar", "work_bar"]

LINE_EVERY = 50
"""Steps between two lines of a training log that no terminal shows."""


def _bar(*columns: TextColumn) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *columns,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        # What goes to a file or a pipe is the result, not part of the display.
        redirect_stdout=sys.stdout.isatty(),
    )


@contextmanager
def count_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Yields on_progress(done, total)."""
    with _bar() as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def work_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yields on_part(what, done, total): a line for each piece of work."""
    with _bar() as bar:
        tasks: dict[str, TaskID] = {}

        def on_part(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        yield on_part


@contextmanager
def steps_bar(total: int) -> Iterator[OnStep]:
    """Yields an `on_step` that counts the network calls of all batches, `total` of them."""
    with _bar() as bar:
        task = bar.add_task("painting", total=total)

        def on_step(x: Tensor, level: Level, denoised: Denoised) -> Tensor:
            bar.advance(task)
            return x

        yield on_step


@contextmanager
def training_bar(steps: int) -> Iterator[Callable[[TrainingProgress], None]]:
    """Yields a watcher of training steps: loss, images a second, time left."""
    with _bar(TextColumn("loss {task.fields[loss]:.4f}  {task.fields[rate]:.1f} images/s")) as bar:
        task = bar.add_task("training", total=steps, loss=float("nan"), rate=0.0)

        def on_step(progress: TrainingProgress) -> None:
            bar.update(task, completed=progress.step, loss=progress.loss, rate=progress.rate)
            if not bar.console.is_terminal and progress.step % LINE_EVERY == 0:
                left = (progress.steps - progress.step) * progress.batch / progress.rate
                bar.console.print(
                    f"step {progress.step} of {progress.steps}  loss {progress.loss:.4f}  "
                    f"{progress.rate:.1f} images/s  {left / 60:.0f} min left"
                )

        yield on_step
