"""A study: named cells of work, each kept when done, and a page of all that was found."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from latentbrush.errors import UserError, short
from latentbrush.files import new_folders, read_json, whole_file, write_json
from latentbrush.reporting import Page, Picture, save_markdown

__all__ = ["Cell", "Found", "Study", "StudyRun"]

SETTINGS, RESULT = "settings.json", "result.json"
Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One setting of a study, done at one go. `name`: of its folder; `work`: in the study's unit of cost.

    `run(folder)` may keep what it likes in its folder, and finds there what an interrupted try left; it returns
    figures that JSON can hold.
    """

    name: str
    what: str
    work: float
    run: Callable[[Path], Figures]


@dataclass(frozen=True)
class Found:
    """A study's page, and the plots in it that are to lie beside it as pictures, by name."""

    page: Page
    plots: Mapping[str, Picture]


class Study(Protocol):
    """What a paper's table or plot is made of."""

    name: str
    unit: str
    """Of work: 'network calls', 'GFLOP', ..."""

    def settings(self) -> dict[str, Any]:
        """All that the figures depend on, as JSON; a study is resumed only with the same."""

    def cells(self) -> Sequence[Cell]: ...

    def rate(self) -> float:
        """Work done in a second on this machine, measured in a few seconds."""

    def found(self, results: Mapping[str, Figures], folder: Path) -> Found:
        """What the finished cells say, though others may be missing; `folder`: of the study."""


class StudyRun:
    """A study's folder: settings.json, cells/NAME/result.json, and when done study.json, index.html, NAME.md and plots.

    UserError for a folder that holds something else, or the same study with other settings.
    """

    def __init__(self, study: Study, directory: Path, *, resume: bool) -> None:
        self.study, self.directory, self.resume = study, directory, resume
        self._settings = json.loads(json.dumps({"study": study.name, **study.settings()}))
        path = directory / SETTINGS
        if not resume and directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise UserError(f"{directory} exists and is not empty; name a new folder, or --resume the study in it")
        if resume and not path.is_file():
            raise UserError(f"{directory} holds no study to resume (no {SETTINGS}); leave --resume out")
        if resume:
            began = read_json(path)
            unlike = sorted(
                key for key in {*began, *self._settings} if began.get(key, ...) != self._settings.get(key, ...)
            )
            if began.get("study") != study.name:
                raise UserError(
                    f"{directory} holds the study {short(began.get('study'))}, not {study.name}; name another"
                )
            if unlike:
                key = unlike[0]
                told = f"{key} was {short(began.get(key))} and is {short(self._settings.get(key))}"
                raise UserError(f"the study in {directory} was begun otherwise: {told}; name a new folder")

    def begin(self) -> None:
        if not self.resume:
            with new_folders(self.directory / "cells"):
                write_json(self.directory / SETTINGS, self._settings)

    def results(self) -> dict[str, Figures]:
        """Of the cells that are done, in the study's order."""
        paths = {cell.name: self._result(cell) for cell in self.study.cells()}
        found = {name: read_json(path) for name, path in paths.items() if path.is_file()}
        return {name: figures for name, figures in found.items() if figures}

    def remaining(self) -> list[Cell]:
        done = self.results()
        return [cell for cell in self.study.cells() if cell.name not in done]

    def do(self, cell: Cell) -> Figures:
        """Run one cell and keep its figures. ValueError, naming the cell, for figures that are not finite."""
        folder = self._result(cell).parent
        folder.mkdir(parents=True, exist_ok=True)
        figures = dict(cell.run(folder))
        try:
            text = json.dumps(figures, allow_nan=False, indent=2, ensure_ascii=False)
        except ValueError as error:
            raise UserError(f"cell {cell.name}: a figure is not finite ({error}); look at {folder}") from None
        with whole_file(self._result(cell)) as beside:
            beside.write_text(text + "\n", encoding="utf-8")
        return figures

    def write(self) -> Found:
        """study.json, the plots, and the page as index.html and as Markdown, of the cells that are done."""
        results = self.results()
        found = self.study.found(results, self.directory)
        write_json(self.directory / "study.json", {**self._settings, "cells": results})
        for name, plot in found.plots.items():
            with whole_file(self.directory / f"{name}.png") as beside:
                plot.image.save(beside, format="PNG", optimize=True)
        found.page.save(self.directory / "index.html")
        save_markdown(found.page, self.directory / f"{self.study.name}.md")
        return found

    def _result(self, cell: Cell) -> Path:
        return self.directory / "cells" / cell.name / RESULT
