"""The folder of a training run: recipe, loss log, sample grids, the last checkpoint, the finished model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from pydantic import BaseModel, ValidationError

from latentbrush.errors import UserError, one_line
from latentbrush.files import new_folders, whole_file
from latentbrush.training.plain_yaml import read_yaml

__all__ = ["Run"]


class Run:
    """DIR/recipe.yaml, DIR/log.jsonl, DIR/samples/step-N.png, DIR/checkpoint.pt and DIR/model.

    A new run wants an empty or absent folder; resuming wants one that holds the same recipe. Every file but
    the log, which grows line by line, is written beside its place and renamed: whatever is there is whole.
    """

    def __init__(self, directory: Path, recipe: BaseModel, *, resume: bool) -> None:
        self.directory = directory
        self.model = directory / "model"
        self._log = directory / "log.jsonl"
        self._checkpoint = directory / "checkpoint.pt"
        self._recipe = recipe.model_dump(mode="json")
        self._resume = resume
        if resume:
            self._refuse_another_recipe(recipe)
        elif directory.exists() and not directory.is_dir():
            raise UserError(f"{directory} is no folder; name a new one for the run")
        elif directory.exists() and any(directory.iterdir()):
            raise UserError(f"{directory} exists and is not empty; name a new folder, or --resume the run in it")

    def begin(self) -> None:
        """Make a new run's folder: not before all that its recipe names has been found, so that one can try again."""
        if self._resume:
            return
        try:
            # With its recipe it can be resumed, without it there is no run: nothing in between may stay.
            with new_folders(self.directory / "samples"), whole_file(self.directory / "recipe.yaml") as beside:
                beside.write_text(yaml.safe_dump(self._recipe, sort_keys=False), encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write the run {self.directory} ({error.strerror}); name another folder") from None

    def _refuse_another_recipe(self, recipe: BaseModel) -> None:
        path = self.directory / "recipe.yaml"
        if not path.is_file():
            raise UserError(f"{self.directory} holds no run to resume (no recipe.yaml); leave --resume out")
        try:
            # A key that recipes did not have when the run began meant what is its default now.
            began = type(recipe).model_validate(read_yaml(path)).model_dump(mode="json")
        except ValidationError as error:
            raise UserError(f"the run {self.directory} was begun with another recipe: {one_line(error)}") from None
        except (OSError, ValueError):
            raise UserError(f"{path} is damaged; put the run's recipe back, or begin a new run") from None
        unlike = [key for key in sorted(began) if began[key] != self._recipe[key]]
        if unlike:
            raise UserError(
                f"the run {self.directory} was begun with another recipe; it differs in {', '.join(unlike)}"
            )

    def log(self, figures: Mapping[str, float | int | str | None]) -> None:
        """Append one line to log.jsonl; all figures finite, for JSON knows no others, or None."""
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(figures), allow_nan=False) + "\n")

    def save_samples(self, step: int, picture: Image.Image) -> Path:
        path = self.directory / "samples" / f"step-{step:06d}.png"
        path.parent.mkdir(exist_ok=True)  # who tidied the samples away may still go on with the run
        with whole_file(path) as beside:
            picture.save(beside, format="PNG")
        return path

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        with whole_file(self._checkpoint) as beside:
            try:
                torch.save(state, beside)
            except RuntimeError as error:  # what torch makes of a full disk
                reason = " ".join(str(error).split())[:200]
                raise UserError(f"cannot write {self._checkpoint} ({reason}); make room and --resume") from None

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, of a step of this recipe, or None before the first."""
        if not self._checkpoint.is_file():
            return None
        try:
            # weights_only: a checkpoint is data, no code is run from it.
            state: dict[str, Any] = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:  # on damaged files torch's reader raises whatever its parsing meets
            raise self.damaged() from error
        step = state.get("step") if isinstance(state, dict) else None
        if not isinstance(step, int) or not 1 <= step <= self._recipe["steps"]:
            raise self.damaged()
        return state

    def damaged(self) -> UserError:
        """What is to be said of a checkpoint that is none of this run's."""
        return UserError(f"{self._checkpoint} is damaged; remove it to begin this run anew")

    def cut_log(self, step: int) -> None:
        """Drop what was logged between the checkpoint of `step` and the interruption: it will be logged again."""
        if not self._log.is_file():
            return
        lines = [line for line in self._log.read_text("utf-8", "replace").splitlines() if _step(line) <= step]
        with whole_file(self._log) as beside:
            beside.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def _step(line: str) -> float:
    """The step of a line of the log; infinity for a line that a power cut tore."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
