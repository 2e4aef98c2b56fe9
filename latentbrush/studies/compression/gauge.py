"""What all models of the study are measured by, and a training that is measured as it goes."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentbrush.data.folder import ImageFolder
from latentbrush.data.pixels import to_bytes, to_signed
from latentbrush.devices import CPU
from latentbrush.errors import UserError
from latentbrush.evaluation import Moments, moments
from latentbrush.evaluation.extractor import Extractor
from latentbrush.files import whole_file
from latentbrush.pipeline import paint, resolve
from latentbrush.request import ImageRequest
from latentbrush.studies.steps.paired import distances, resamples
from latentbrush.training import TextToImageRecipe
from latentbrush.training.grid import picture_grid
from latentbrush.training.text_to_image import TextToImageStage

__all__ = ["BATCH", "TRIES", "Gauge", "MeasuredStage"]

BATCH = 64
TRIES = 100
"""Resampled sets; the deviation that they tell is sure to 7%."""
SHOWN = 8


class Gauge:
    """Fréchet distance to all training pictures of `folder`, in `size` pixels, of as many as `pictures`.

    Their captions are drawn by `seed`, and caption i is painted from the noise of seed + i. UserError for fewer than
    2 pictures, or more than there are.
    """

    def __init__(self, folder: ImageFolder, extractor: Extractor, *, size: int, pictures: int, seed: int) -> None:
        chosen = folder.select("train")
        if not 2 <= pictures <= len(chosen):
            raise UserError(
                f"{pictures} pictures are asked for; choose from 2 to {len(chosen)}, the training pictures of "
                f"{folder.directory}"
            )
        self.extractor, self.seed, self.train = extractor, seed, chosen.load(size)
        order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed))
        self.drawn = order[:pictures]
        self.captions = [chosen.captions[i] for i in self.drawn.tolist()]

    @property
    def originals(self) -> Tensor:
        """uint8 (n, 3, S, S): of the captions."""
        return self.train[self.drawn]

    @cached_property
    def reference(self) -> Moments:
        return moments([self._features(self.train)])

    @cached_property
    def draws(self) -> Tensor:
        """Which pictures each resampled set holds, the same for all models."""
        return resamples(len(self.captions), TRIES, self.seed)

    def distance(self, pictures: Tensor, path: Path) -> float:
        """Of uint8 pictures, one for each caption; those of the resampled sets are kept in `path`."""
        value, tries = distances(self.reference, self._features(pictures), self.draws)
        with whole_file(path) as beside, beside.open("wb") as file:
            np.savez(file, resampled=tries.numpy())
        return value

    def _features(self, pictures: Tensor) -> Tensor:
        return torch.cat([self.extractor(part).pooled for part in torch.split(pictures, BATCH)])


class MeasuredStage(TextToImageStage):
    """Text-to-image, validated by the Fréchet distance of what the averaged weights paint of the gauge's captions.

    The distances of resampled sets are kept in `folder`/fd-STEP.npz; the figures stand in the run's log.
    """

    def __init__(self, recipe: TextToImageRecipe, gauge: Gauge, folder: Path, device: torch.device = CPU) -> None:
        super().__init__(recipe, device)
        self.gauge, self.folder, self._done = gauge, folder, 0
        self._shown: Tensor | None = None

    def loss(self, step: int) -> Tensor:
        self._done = step + 1
        return super().loss(step)

    def validate(self) -> dict[str, float]:
        painted = self._painted()
        self._shown = painted[:SHOWN]
        return {"fd": self.gauge.distance(painted, kept(self.folder, self._done))}

    def samples(self) -> Image.Image:
        """Above the captions' own pictures, below what was painted of them."""
        assert self._shown is not None  # the loop validates first
        rows = [self.gauge.originals[:SHOWN], self._shown]
        return picture_grid(torch.cat([to_signed(row) for row in rows]), columns=len(self._shown))

    def _painted(self) -> Tensor:
        request = resolve(self.model, ImageRequest(prompt=""))
        parts = []
        for first in range(0, len(self.gauge.captions), BATCH):
            captions = self.gauge.captions[first : first + BATCH]
            seeds = [self.gauge.seed + first + i for i in range(len(captions))]
            parts.append(to_bytes(paint(self.model, captions, seeds, request)).cpu())
        return torch.cat(parts)


def kept(folder: Path, step: int) -> Path:
    return folder / f"fd-{step:06d}.npz"
