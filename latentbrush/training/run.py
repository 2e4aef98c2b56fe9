"""The folder of a training run: recipe, loss log, sample grids, the last checkpoint, the finished model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from pydantic import BaseModel

from latentbrush.errors import UserError

__all__ = ["Run"]


class Run:
    """DIR/recipe.yaml, DIR/log.jsonl, DIR/samples/step-N.png, DIR/checkpoint.pt and DIR/model.

    A new run wants an empty or absent folder; resuming wants one that holds the same recipe. Every file is
    written beside its place and renamed, so that whatever is there is whole.
    """

    def __init__(self, directory: Path, recipe: BaseModel, *, resume: bool) -> None:
        self.directory = directory
        self.model = directory / "model"
        self._log = directory / "log.jsonl"
        self._checkpoint = directory / "checkpoint.pt"
        stated = recipe.model_dump(mode="json")
        if resume:
            self._refuse_another_recipe(stated)
            return
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise UserError(f"{directory} exists and is not empty; name a new folder, or --resume the run in it")
        try:
            (directory / "samples").mkdir(parents=True)
            (directory / "recipe.yaml").write_text(yaml.safe_dump(stated, sort_keys=False), encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write the run {directory}: {error.strerror}") from None

    def _refuse_another_recipe(self, stated: dict[str, Any]) -> None:
        path = self.directory / "recipe.yaml"
        if not path.is_file():
            raise UserError(f"{self.directory} holds no run to resume (no recipe.yaml); leave --resume out")
        began = yaml.safe_load(path.read_text(encoding="utf-8"))
        unlike = [key for key in sorted({*began, *stated}) if began.get(key) != stated.get(key)]
        if unlike:
            raise UserError(
                f"the run {self.directory} was begun with another recipe; it differs in {', '.join(unlike)}"
            )

    def log(self, figures: dict[str, float | int | str]) -> None:
        """Append one line to log.jsonl."""
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")

    def save_samples(self, step: int, picture: Image.Image) -> Path:
        path = self.directory / "samples" / f"step-{step:06d}.png"
        picture.save(path)
        return path

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        beside = self._checkpoint.with_suffix(".tmp")
        torch.save(state, beside)
        os.replace(beside, self._checkpoint)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, or None before the first; later lines of the log are dropped."""
        if not self._checkpoint.is_file():
            self._log.unlink(missing_ok=True)
            return None
        # weights_only: a checkpoint is data, no code is run from it.
        state: dict[str, Any] = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        self._cut_log(state["step"])
        return state

    def _cut_log(self, step: int) -> None:
        """What was logged between the last checkpoint and the interruption is about to be logged again."""
        if not self._log.is_file():
            return
        lines = [line for line in self._log.read_text("utf-8").splitlines() if json.loads(line)["step"] <= step]
        beside = self._log.with_suffix(".tmp")
        beside.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        os.replace(beside, self._log)
