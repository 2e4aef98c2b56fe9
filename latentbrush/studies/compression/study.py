"""`study compression`: train LDM-f for each factor, and look at it as it learns."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from latentbrush.data.folder import ImageFolder
from latentbrush.devices import CPU
from latentbrush.errors import UserError
from latentbrush.evaluation.extractor import Extractor
from latentbrush.formats import load_autoencoder
from latentbrush.origin import sha256_of
from latentbrush.studies.compression.factors import (
    FACTORS,
    SIZE,
    compression_recipe,
    forward_flops,
    setting_of,
    step_flops,
)
from latentbrush.studies.compression.gauge import TRIES, Gauge, MeasuredStage
from latentbrush.studies.compression.page import found
from latentbrush.studies.first_stage import HeldPictures, StagePictures
from latentbrush.studies.study import Cell, Figures, Found
from latentbrush.studies.zoo import training_flops, zoo_recipe
from latentbrush.training import Run, TrainingProgress, run_recipe, train

__all__ = ["MEASURES", "PICTURES", "STAGE_STEPS", "STEPS", "CompressionStudy"]

STEPS, STAGE_STEPS, MEASURES, PICTURES = 4000, 1000, 10, 192
OnStep = Callable[[TrainingProgress], None]
WEIGHTS = Path("vae") / "diffusion_pytorch_model.safetensors"


class CompressionStudy:
    """One cell a factor: its first stage, then its diffusion model, of which `pictures` are painted `measures` times.

    `zoo`: the folder of a `study zoo`, whose first stages are taken; None to train them in `stage_steps` steps, as the
    zoo does. `steps`: of the diffusion models. UserError for numbers that cannot be, and for a zoo that has not
    trained what is needed.
    """

    name, unit = "compression", "TFLOP"

    def __init__(
        self,
        data: Path,
        extractor: Extractor,
        *,
        factors: Sequence[int] = FACTORS,
        steps: int = STEPS,
        stage_steps: int = STAGE_STEPS,
        measures: int = MEASURES,
        pictures: int = PICTURES,
        seed: int = 0,
        zoo: Path | None = None,
        device: torch.device = CPU,
    ) -> None:
        if steps < 1:
            raise UserError(f"{steps} steps of training; choose at least 1")
        if not 1 <= measures <= steps:
            raise UserError(f"{measures} measurements of {steps} steps; choose from 1 to {steps}")
        if stage_steps < 1:
            raise UserError(f"{stage_steps} steps of a first stage; choose at least 1")
        self.data, self.factors, self.steps, self.stage_steps = data, tuple(factors), steps, stage_steps
        self.measures, self.seed, self.zoo, self.device = measures, seed, zoo, device
        self.gauge = Gauge(ImageFolder(data), extractor, size=SIZE, pictures=pictures, seed=seed)
        self.taken = {} if zoo is None else {f: _taken(zoo, f) for f in self.factors if f > 1}
        self.recipes = {
            f: compression_recipe(f, data, None, steps=steps, measures=measures, seed=seed) for f in self.factors
        }

    def settings(self) -> dict[str, Any]:
        content = hashlib.sha256(self.gauge.train.numpy().tobytes())
        content.update("\n".join(self.gauge.captions).encode())
        stages: Any = self.stage_steps
        if self.zoo is not None:
            stages = {str(f): sha256_of(folder / WEIGHTS) for f, folder in self.taken.items()}
        return {
            "data": f"sha256:{content.hexdigest()}",
            "factors": list(self.factors),
            "steps": self.steps,
            "first_stages": stages,
            "measures": self.measures,
            "pictures": len(self.gauge.captions),
            "train": len(self.gauge.train),
            "size": SIZE,
            "seed": self.seed,
            "extractor": self.gauge.extractor.identity.to_json(),
            "resampled": TRIES,
        }

    def cells(self) -> list[Cell]:
        """Those with least work first: a study stopped half way is still one."""
        cells = [Cell(f"ldm-{f}", self._what(f), self._work(f), partial(self.run, f)) for f in self.factors]
        return sorted(cells, key=lambda cell: cell.work)

    def _what(self, factor: int) -> str:
        config, setting = self.recipes[factor].unet, setting_of(factor)
        stage = "pixels" if setting is None else setting.name
        return f"{config.in_channels}x{config.sample_size}x{config.sample_size}, {stage}"

    def _work(self, factor: int) -> float:
        recipe = self.recipes[factor]
        painted = self.steps // recipe.validate_every * len(self.gauge.captions) * recipe.defaults.steps
        own = step_flops(recipe) * self.steps + forward_flops(recipe)[0] * painted
        return own / 1e12 + (0.0 if self.zoo is not None else self._stage_tflop(factor))

    def _stage_tflop(self, factor: int) -> float:
        setting = setting_of(factor)
        if setting is None:
            return 0.0
        return training_flops(zoo_recipe(setting, self.data, steps=self.stage_steps, seed=self.seed)) / 1e12

    def rate(self) -> float:
        """TFLOP a second that training does here, by two steps of LDM-1, which is the costliest; a step before is left
        out. Small latents keep a machine less busy, so that their cells take longer than this says."""
        recipe = compression_recipe(1, self.data, None, steps=1, measures=1, seed=self.seed)
        stage, seconds = MeasuredStage(recipe, self.gauge, self.data, self.device), []
        for step in range(3):
            began = time.perf_counter()
            stage.loss(step).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            seconds.append(time.perf_counter() - began)
        return step_flops(recipe) / 1e12 * 2 / sum(seconds[1:])

    def run(self, factor: int, folder: Path, on_step: OnStep | None = None) -> Figures:
        """Train in `folder`, going on where an earlier try there was stopped."""
        stage = self._first_stage(factor, folder)
        recipe = self.recipes[factor].model_copy(update={"first_stage": stage})
        place = folder / "run"
        measured = MeasuredStage(recipe, self.gauge, folder, self.device)
        train(measured, recipe, Run(place, recipe, resume=(place / "recipe.yaml").is_file()), on_step)
        tflop = step_flops(recipe) / 1e12
        return {
            "factor": factor,
            "latent": [recipe.unet.in_channels, recipe.unet.sample_size, recipe.unet.sample_size],
            "parameters": sum(weight.numel() for weight in measured.model.unet.parameters()),
            "text_parameters": sum(weight.numel() for weight in measured.text.parameters()),
            "step_tflop": tflop,
            "stage_tflop": None if self.zoo is not None else self._stage_tflop(factor),
            "reconstruction_fd": self._reconstructed(stage, folder),
            "measured": [
                {"step": line["step"], "tflop": line["step"] * tflop, "fd": line["fd"]}
                for line in map(json.loads, (place / "log.jsonl").read_text("utf-8").splitlines())
                if "fd" in line
            ],
        }

    def _first_stage(self, factor: int, folder: Path) -> Path | None:
        """The model folder of the factor's first stage, trained if it is not yet there."""
        setting = setting_of(factor)
        if setting is None or factor in self.taken:
            return self.taken.get(factor)
        recipe, run = zoo_recipe(setting, self.data, steps=self.stage_steps, seed=self.seed), folder / "first-stage"
        if not (run / "model" / WEIGHTS).is_file():
            run_recipe(recipe, run, resume=(run / "recipe.yaml").is_file(), device=self.device)
        return run / "model"

    def _reconstructed(self, stage: Path | None, folder: Path) -> float:
        """Of the captions' own pictures through the first stage, which no diffusion model behind it goes far below."""
        originals = HeldPictures("originals", self.gauge.originals)
        pictures = originals.pictures
        if stage is not None:
            rebuilt = StagePictures(load_autoencoder(stage / "vae").to(self.device), originals)
            pictures = torch.cat([rebuilt.of(part) for part in torch.split(pictures, 64)])
        return self.gauge.distance(pictures, folder / "reconstructions.npz")

    def found(self, results: Mapping[str, Figures], folder: Path) -> Found:
        return found(results, self.settings(), folder)


def _taken(zoo: Path, factor: int) -> Path:
    setting = setting_of(factor)
    assert setting is not None
    folder = zoo / "cells" / setting.name / "run" / "model"
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"the zoo {zoo} has not trained {setting.name} (no {folder}); finish it, or leave --zoo out")
    return folder
