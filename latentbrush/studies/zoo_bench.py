"""One cell of the zoo: a first stage trained on the emoji world, and measured on what it saw and on what it did not."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentbrush.data.folder import ImageFolder
from latentbrush.data.pixels import to_signed
from latentbrush.devices import CPU
from latentbrush.evaluation import moments, psnr
from latentbrush.evaluation.bootstrap import frechet_influences
from latentbrush.evaluation.clip_extractor import CLIPExtractor
from latentbrush.evaluation.perceptual import CLIPDistance
from latentbrush.files import whole_file
from latentbrush.formats import load_autoencoder, load_vq
from latentbrush.nn import FirstStage, VQAutoencoder
from latentbrush.studies.first_stage import HeldPictures, StagePictures, usage_of
from latentbrush.studies.rebuilt import rebuild
from latentbrush.studies.study import Cell
from latentbrush.studies.zoo import STEPS, ZOO, ZooSetting, training_flops, zoo_recipe
from latentbrush.studies.zoo_trends import Each
from latentbrush.training import TrainingProgress, run_recipe, stage_of
from latentbrush.training.grid import picture_grid

__all__ = ["EACH", "SHEET", "ZooBench"]

SIZE = 32
SHOWN = 8
BATCH = 64
SHEET, EACH = "reconstructions.png", "held_out.npz"


class ZooBench:
    """Trains and measures settings alike, on the emoji world in `data`, pictures of 32x32 pixels.

    Held out are validation and test together; of the training pictures an even selection of as many is measured, since
    a Frechet distance depends on the number. UserError for a folder that is no emoji world.
    """

    def __init__(self, data: Path, *, steps: int = STEPS, seed: int = 0, device: torch.device = CPU) -> None:
        self.data, self.steps, self.seed, self.device = data, steps, seed, device
        folder = ImageFolder(data)
        parts = {split: folder.select(split) for split in ("train", "validation", "test")}
        held_out = torch.cat([parts[split].load(SIZE) for split in ("validation", "test")])
        train = parts["train"].load(SIZE)
        count = min(len(train), len(held_out))
        self.pictures = {
            "held_out": HeldPictures("held-out emoji", held_out),
            "train": HeldPictures("training emoji", train[torch.arange(count) * len(train) // count]),
        }
        content = hashlib.sha256(train.numpy().tobytes())
        content.update(held_out.numpy().tobytes())
        self.digest = f"sha256:{content.hexdigest()}"
        self.extractor, self.distance = CLIPExtractor(device=device), CLIPDistance(device=device)

    def settings(self) -> dict[str, Any]:
        """What all figures depend on beside the settings themselves."""
        return {
            "data": self.digest,
            "size": SIZE,
            "steps": self.steps,
            "seed": self.seed,
            "held_out": len(self.pictures["held_out"]),
            "rfid_by": self.extractor.identity.to_json(),
            "psim_by": self.distance.identity.to_json(),
        }

    def work(self, setting: ZooSetting) -> float:
        """TFLOP of the training; the measuring takes a few seconds."""
        return training_flops(zoo_recipe(setting, self.data, steps=self.steps, seed=self.seed)) / 1e12

    def cells(self, settings: Sequence[ZooSetting] = ZOO) -> list[Cell]:
        """Of a study whose unit of cost is TFLOP."""
        return [Cell(one.name, self._what(one), self.work(one), partial(self.run, one)) for one in settings]

    def _what(self, setting: ZooSetting) -> str:
        side, codes = SIZE // setting.factor, setting.emoji_codes
        kind = "KL" if codes is None else f"VQ, {codes} codes for {setting.codes}"
        attention = "" if setting.attention else ", no attention"
        return f"f = {setting.factor}, {kind}, {setting.channels}x{side}x{side}{attention}"

    def rate(self) -> float:
        """TFLOP a second that training does here, by three steps of a setting in the middle, the first left out."""
        setting = next(one for one in ZOO if one.name == "kl-f8-c4")
        recipe = zoo_recipe(setting, self.data, steps=1, seed=self.seed)
        stage, seconds = stage_of(recipe, self.device), []
        for step in range(4):
            began = time.perf_counter()
            stage.loss(step).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            seconds.append(time.perf_counter() - began)
        return training_flops(recipe) / 1e12 * 3 / sum(seconds[1:])

    def run(
        self, setting: ZooSetting, folder: Path, on_step: Callable[[TrainingProgress], None] | None = None
    ) -> dict[str, Any]:
        """Train in `folder`/run, going on where an earlier try there was stopped; measure; draw `folder`/SHEET.

        Returns the figures by part, `held_out` and `train`, and what the first stage is, as JSON can hold them.
        """
        recipe = zoo_recipe(setting, self.data, steps=self.steps, seed=self.seed)
        run = folder / "run"
        run_recipe(recipe, run, resume=(run / "recipe.yaml").is_file(), device=self.device, on_step=on_step)
        stage = self._trained(setting, folder)
        self._keep_each(stage, folder)
        with whole_file(folder / SHEET) as beside:
            self._sheet(stage).save(beside, format="PNG")
        return {
            "setting": setting.name,
            "parameters": sum(weight.numel() for weight in stage.parameters()),
            "latent": [setting.channels, SIZE // setting.factor, SIZE // setting.factor],
            "codes": setting.emoji_codes,
            "training_tflop": self.work(setting),
            **{part: self._measured(stage, part) for part in self.pictures},
        }

    def each(self, setting: ZooSetting, folder: Path) -> Each:
        """What is kept of every held-out picture in the cell's `folder`; measured now, where an earlier version of
        this study kept none. UserError where then the trained first stage is not there."""
        if not (folder / EACH).is_file():
            self._keep_each(self._trained(setting, folder), folder)
        with np.load(folder / EACH) as kept:
            values, features = (torch.from_numpy(kept[name]) for name in ("psnr", "features"))
        # A picture counts on both sides of the distance: with its reconstruction, the original is another one, too.
        _, made = frechet_influences(features, moments([self._originals]))
        _, seen = frechet_influences(self._originals, moments([features]))
        return Each(values, made + seen)

    @cached_property
    def _originals(self) -> Tensor:
        """(n, d): features of the held-out pictures."""
        return self._features(self.pictures["held_out"].pictures)

    def _features(self, pictures: Tensor) -> Tensor:
        return torch.cat([self.extractor(part).pooled for part in torch.split(pictures, BATCH)])

    def _trained(self, setting: ZooSetting, folder: Path) -> FirstStage:
        model = folder / "run" / "model"
        loaded = load_vq(model / "vqvae") if setting.regulariser == "vq" else load_autoencoder(model / "vae")
        return loaded.to(self.device)

    def _keep_each(self, stage: FirstStage, folder: Path) -> None:
        """PSNR of every held-out picture, and the features of what comes back."""
        held_out = self.pictures["held_out"]
        through = StagePictures(stage, held_out)
        rebuilt = torch.cat([through.of(part) for part in torch.split(held_out.pictures, BATCH)])
        values, features = psnr(rebuilt, held_out.pictures), self._features(rebuilt)
        with whole_file(folder / EACH) as beside, beside.open("wb") as file:
            np.savez(file, psnr=values.numpy(), features=features.numpy())

    def _measured(self, stage: FirstStage, part: str) -> dict[str, Any]:
        """Figure -> value and 95% interval, `None` where it has none."""
        found = rebuild(StagePictures(stage, self.pictures[part]), self.extractor, self.distance).figures(self.seed)
        figures = {name: {"value": one.value, "interval": one.interval} for name, one in found.items()}
        if not isinstance(stage, VQAutoencoder):
            return figures
        usage = usage_of(stage, self.pictures[part].pictures)
        return figures | {"perplexity": usage.perplexity, "codes_used": usage.share}

    def _sheet(self, stage: FirstStage) -> Image.Image:
        """Above held-out originals, below what comes back."""
        held_out = self.pictures["held_out"]
        shown = held_out.pictures[torch.arange(SHOWN) * len(held_out) // SHOWN]
        rows = [shown, StagePictures(stage, held_out).of(shown)]
        return picture_grid(torch.cat([to_signed(row) for row in rows]), columns=SHOWN)
