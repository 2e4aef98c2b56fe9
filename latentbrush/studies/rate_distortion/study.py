"""`study rate-distortion`: what the bits of a picture buy, from the first that tell what it is to the last."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from latentbrush.data.folder import ImageFolder
from latentbrush.devices import precision
from latentbrush.errors import UserError
from latentbrush.evaluation.extractor import Extractor
from latentbrush.model import LatentDiffusion
from latentbrush.studies.first_stage import HeldPictures
from latentbrush.studies.likelihood import measure_bits
from latentbrush.studies.rate_distortion.codes import CODES, coded
from latentbrush.studies.rate_distortion.curve import diffusion_curve, stage_point
from latentbrush.studies.rate_distortion.page import found
from latentbrush.studies.rate_distortion.seen import Judge
from latentbrush.studies.study import Cell, Figures, Found

__all__ = ["CODE", "NOTHING", "PARTS", "WORDS", "RateDistortionStudy"]

PARTS = {"held_out": "held-out pictures", "train": "training pictures"}
NOTHING, WORDS, CODE = "told nothing", "told their captions", "known codes"
STEPS, PICTURES = 100, 256


class RateDistortionStudy:
    """Distortion against bits per dimension, by the model and by known codes, on what it was trained on and what not.

    `pictures`: of each part, an even selection; held out are validation and test together, and where there are fewer,
    as many are taken of the training pictures. `steps`: of the bound. A model that reads words is asked with the
    captions and without.

    UserError for a model that is neither for words nor without any condition, for a number of steps or pictures that
    cannot be, and for a folder without held-out pictures.
    """

    name, unit = "rate-distortion", "picture-calls"

    def __init__(
        self,
        model: LatentDiffusion,
        folder: ImageFolder,
        extractor: Extractor,
        *,
        pictures: int = PICTURES,
        steps: int = STEPS,
        seed: int = 0,
    ) -> None:
        if model.task not in ("text-to-image", "unconditional"):
            raise UserError(
                f"the model is for {model.task}, and what it must be told is no code; give one of words, or without any"
            )
        most = model.schedule.num_train_timesteps
        if not 2 <= steps <= most:
            raise UserError(f"a bound of {steps} steps; choose from 2 to {most}")
        self.model, self.extractor, self.steps, self.seed = model, extractor, steps, seed
        train, held_out = folder.divide("train")
        if train is None or held_out is None:
            raise UserError(f"{folder.directory} has no pictures that were held out; give one with other splits, too")
        most = min(len(train), len(held_out))
        if pictures < 2:
            raise UserError(f"{pictures} pictures are asked for; at least 2 are needed")
        self.count, side = min(pictures, most), model.defaults.width
        words = model.task == "text-to-image"
        self.told = (NOTHING, WORDS) if words else (NOTHING,)
        self.pictures: dict[str, Tensor] = {}
        self.captions: dict[str, list[str]] = {}
        for part, chosen in (("held_out", held_out), ("train", train)):
            places = [i * len(chosen) // self.count for i in range(self.count)]
            self.pictures[part] = chosen.load(side)[places]
            self.captions[part] = [chosen.captions[i] for i in places] if words else []

    def settings(self) -> dict[str, Any]:
        origin, content = self.model.origin, hashlib.sha256()
        for part in PARTS:
            content.update(self.pictures[part].numpy().tobytes())
            content.update("\n".join(self.captions[part]).encode())
        return {
            "model": "(in memory)" if origin is None else origin.folder.name,
            "weights": {} if origin is None else dict(origin.weights),
            "dtype": precision(self.model.dtype),
            "extractor": self.extractor.identity.to_json(),
            "data": f"sha256:{content.hexdigest()}",
            "pictures": self.count,
            "size": self.model.defaults.width,
            "steps": self.steps,
            "seed": self.seed,
        }

    def cells(self) -> list[Cell]:
        asked = [(part, told) for part in PARTS for told in self.told]
        work = float(self.count * (self.steps + 1))
        curves = [
            Cell(cell_name(part, told), f"{PARTS[part]}, {told}", work, partial(self._curve, part, told))
            for part, told in asked
        ]
        # The feature extractor sees a picture of every code, which is about what a call costs.
        known = float(self.count * len(CODES))
        return curves + [
            Cell(cell_name(part, CODE), f"{PARTS[part]} in JPEG and PNG", known, partial(self._codes, part))
            for part in PARTS
        ]

    def rate(self) -> float:
        few = HeldPictures("few", self.pictures["train"][:64])
        said = self._said("train", NOTHING)[:64]
        seconds = []
        for _ in range(2):  # the first batch of a process is slower
            began = time.monotonic()
            measure_bits(self.model, few, said, steps=min(8, self.steps), seed=self.seed)
            seconds.append(time.monotonic() - began)
        return len(few) * min(8, self.steps) / seconds[-1]

    def found(self, results: Mapping[str, Figures], folder: Path) -> Found:
        told = {
            part: {told: results[name] for told in (*self.told, CODE) if (name := cell_name(part, told)) in results}
            for part in PARTS
        }
        return found(told, self.settings())

    def _said(self, part: str, told: str) -> Sequence[str | None]:
        if self.model.task != "text-to-image":
            return [None] * self.count
        return self.captions[part] if told == WORDS else [""] * self.count

    def _curve(self, part: str, told: str, folder: Path) -> Figures:
        judge = Judge(self.pictures[part], self.extractor)
        curve = diffusion_curve(self.model, judge, self._said(part, told), steps=self.steps, seed=self.seed)
        stage = dict(stage_point(self.model, judge, seed=self.seed))
        if stage.get("entropy") is not None:
            stage["learned"] = curve["total"] - stage["entropy"]
        return {**curve, "first_stage": stage}

    def _codes(self, part: str, folder: Path) -> Figures:
        pictures = self.pictures[part]
        judge = Judge(pictures, self.extractor)
        rows = []
        for code in CODES:
            bits, back = coded(pictures, code)
            rows.append({"name": code.name, "kind": code.kind, "rate": bits, **judge.whole(back).to_json()})
        alone = [coded(one[None], CODES[-1])[0] for one in pictures]
        return {"codes": rows, "png_alone": sum(alone) / len(alone)}


def cell_name(part: str, told: str) -> str:
    return f"{part}-{told}".replace("_", "-").replace(" ", "-")
