"""`study steps`: paint the same captions from the same seeds in every way, and measure."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentbrush.data.folder import ImageFolder
from latentbrush.data.pixels import to_bytes, to_image
from latentbrush.devices import precision
from latentbrush.diffusion import Denoised, Level
from latentbrush.errors import UserError
from latentbrush.evaluation import Moments, frechet_distance, moments
from latentbrush.evaluation.bootstrap import deviation_of, frechet_influences
from latentbrush.evaluation.extractor import Extractor
from latentbrush.files import whole_file
from latentbrush.model import LatentDiffusion
from latentbrush.pipeline import paint
from latentbrush.studies.composition import check_size, reconstructed
from latentbrush.studies.steps.page import found
from latentbrush.studies.steps.routes import ROUTES, Route, Way, way_within, ways_of
from latentbrush.studies.steps.scores import CHECK, CONVERGED, FLOORS
from latentbrush.studies.study import Cell, Figures, Found

__all__ = ["StepsStudy"]

BATCH = 64
STRIP = 8
SOLVER = Route("dpmpp_3m")
CONVERGED_CALLS = 500
UNIT = 65535
"""Converged pictures are kept in 16 bits a colour, whose rounding is far below any distance that is measured."""


class StepsStudy:
    """Every sampler in several numbers of network calls: Fréchet distance to the training pictures, and distance to
    the picture that its steps converge to.

    `pictures` captions of the training half of `folder` are drawn by `seed`; caption i is painted from the noise of
    seed + i in every cell. `guidance`: None for the model's. `converged`: network calls of the converged pictures, of
    which half as many, once more, tell how far they are to be trusted.

    UserError for a model that reads no words or paints larger than the originals, for fewer than 2 pictures or more
    than leave 2 others, and for budgets in which no sampler paints.
    """

    name, unit = "steps", "picture-calls"

    def __init__(
        self,
        model: LatentDiffusion,
        folder: ImageFolder,
        extractor: Extractor,
        *,
        pictures: int = 256,
        routes: Sequence[Route] = ROUTES,
        budgets: Sequence[int] = (5, 10, 20, 50),
        seed: int = 0,
        guidance: float | None = None,
        converged: int = CONVERGED_CALLS,
    ) -> None:
        if model.task != "text-to-image" or not model.reads_words:
            raise UserError(
                f"study steps paints from captions, and the model is for {model.task}; give a text-to-image one"
            )
        check_size(model, folder)
        self.model, self.extractor, self.seed = model, extractor, seed
        self.folder = folder.select("train")
        most = len(self.folder) - 2
        if not 2 <= pictures <= most:
            raise UserError(
                f"{pictures} pictures are asked for; choose from 2 to {most}, for {folder.directory} has {most + 2} "
                "training pictures, and 2 at least stay to compare with"
            )
        self.routes, self.budgets = tuple(routes), tuple(sorted(set(budgets)))
        self.ways = ways_of(model, self.routes, self.budgets, guidance)
        if not self.ways:
            raise UserError(f"no sampler paints in {self.budgets} network calls; choose more, such as 5,10,20,50")
        solvers = [way_within(model, SOLVER, calls, guidance) for calls in (converged, converged // 2)]
        if None in solvers:
            raise UserError(f"the converged pictures are to take {converged} network calls; choose more, such as 500")
        self.converged, self.check = (way for way in solvers if way is not None)
        order = torch.randperm(len(self.folder), generator=torch.Generator().manual_seed(seed))
        self.drawn = order[:pictures]
        captions = self.folder.captions
        self.captions = [captions[i] for i in self.drawn.tolist()]

    def settings(self) -> dict[str, Any]:
        origin = self.model.origin
        content = hashlib.sha256(self.train.numpy().tobytes())
        content.update("\n".join(self.folder.captions).encode())
        return {
            "model": "(in memory)" if origin is None else origin.folder.name,
            "weights": {} if origin is None else dict(origin.weights),
            "model_settings": None if origin is None else origin.settings,
            "dtype": precision(self.model.dtype),
            "extractor": self.extractor.identity.to_json(),
            "data": f"sha256:{content.hexdigest()}",
            "train": len(self.folder),
            "pictures": len(self.captions),
            "size": self.model.defaults.width,
            "seed": self.seed,
            "batch": BATCH,
            "guidance": self.converged.request.guidance.weight,
            "samplers": [route.name for route in self.routes],
            "calls": list(self.budgets),
            "converged": {"sampler": SOLVER.name, "calls": self.converged.calls, "check": self.check.calls},
        }

    def cells(self) -> list[Cell]:
        count = len(self.captions)
        floors = Cell(FLOORS, "real pictures, and the autoencoder's", 2.0 * count, self._floors)
        painted = [
            Cell(name, f"{way.steps} steps of {way.route.name}", float(count * way.calls), partial(self._measure, way))
            for name, way in [(CONVERGED, self.converged), (CHECK, self.check), *((way.name, way) for way in self.ways)]
        ]
        return [floors, *painted]

    def rate(self) -> float:
        way = self.ways[0]
        count, calls = min(BATCH, len(self.captions)), 0
        next(self._paint(way))  # the first batch of a process is slower
        began = time.monotonic()
        while time.monotonic() - began < 3:
            next(self._paint(way))
            calls += way.calls
        return count * calls / (time.monotonic() - began)

    def found(self, results: Mapping[str, Figures], folder: Path) -> Found:
        return found(self, results, folder)

    @cached_property
    def train(self) -> Tensor:
        """uint8 (n, 3, S, S): the pictures that the model was trained on, in the size that it paints."""
        return self.folder.load(self.model.defaults.width)

    @cached_property
    def train_features(self) -> Tensor:
        """(n, d)."""
        return self._features(self.train)

    @cached_property
    def reference(self) -> Moments:
        return moments([self.train_features])

    def _features(self, pictures: Tensor) -> Tensor:
        return torch.cat([self.extractor(part).pooled for part in torch.split(pictures, BATCH)])

    def _floors(self, folder: Path) -> Figures:
        """How near real pictures come: as many as are painted, of which the reference has all, or none."""
        own = torch.zeros(len(self.train), dtype=torch.bool)
        own[self.drawn] = True
        originals = self.train_features[self.drawn]
        rebuilt = reconstructed(self.model, self.train[self.drawn])
        error = (rebuilt.double() - self.train[self.drawn].double()) / 255
        return {
            **self._compared(originals, folder, "originals"),
            "apart": frechet_distance(moments([self.train_features[~own]]), moments([originals])),
            **self._compared(self._features(rebuilt), folder, "reconstructions"),
            "reconstruction_error": float(error.square().mean().sqrt()),
        }

    def _compared(self, features: Tensor, folder: Path, name: str) -> dict[str, float]:
        """The features' distance to the reference; features and their influences on it are kept beside."""
        value, influences = frechet_influences(features, self.reference)
        with whole_file(folder / f"{name}.npz") as beside, beside.open("wb") as file:
            np.savez(file, features=features.numpy(), influences=influences.numpy())
        return {name: value, f"{name}_deviation": deviation_of(influences)}

    def _measure(self, way: Way, folder: Path) -> Figures:
        kept = folder.parent / CONVERGED / "pictures.npy"
        draws = way.route.draws(self.model)
        begins = way is self.converged
        goal = None if begins or draws else np.load(kept, mmap_mode="r")
        features, squares = [], []
        for first, pixels in self._paint(way):
            pictures, unit = to_bytes(pixels).cpu(), (pixels.double() / 2 + 0.5).clamp(0, 1).cpu()
            features.append(self.extractor(pictures).pooled)
            if begins:
                self._keep(folder / "pictures.npy", first, unit)
            elif goal is not None:
                wanted = torch.from_numpy(goal[first : first + len(unit)].astype(np.float64) / UNIT)
                squares.append((unit - wanted).square().flatten(1).mean(1))
            if first == 0:
                with whole_file(folder / "strip.png") as beside:
                    strip(pictures[:STRIP]).save(beside, format="PNG", optimize=True)
        if squares:  # of every picture, for whoever wants another mean
            with whole_file(folder / "squares.npy") as beside, beside.open("wb") as file:
                np.save(file, torch.cat(squares).numpy())
        return {
            "sampler": way.route.sampler,
            "sigmas": way.request.sampling.sigmas,
            "steps": way.steps,
            "calls": way.calls,
            "draws": draws,
            **self._compared(torch.cat(features), folder, "fd"),
            "distance": float(torch.cat(squares).mean().sqrt()) if squares else None,
        }

    def _paint(self, way: Way) -> Iterator[tuple[int, Tensor]]:
        """Batches: the first one's place, (B, 3, S, S), about [-1, 1]. ValueError where the network was asked more
        or less often than the plan says."""
        for first in range(0, len(self.captions), BATCH):
            captions, counted = self.captions[first : first + BATCH], _Counted()
            seeds = [self.seed + first + i for i in range(len(captions))]
            pixels = paint(self.model, captions, seeds, way.request, counted)
            if counted.calls != way.calls:
                raise ValueError(f"{way.name} asked the network {counted.calls} times, its plan says {way.calls}")
            yield first, pixels

    def _keep(self, path: Path, first: int, unit: Tensor) -> None:
        """On disk, batch by batch: many large pictures need not fit into memory."""
        shape = (len(self.captions), *unit.shape[1:])
        file = np.lib.format.open_memmap(path, "r+" if first else "w+", np.uint16, None if first else shape)
        file[first : first + len(unit)] = (unit * UNIT).round().numpy().astype(np.uint16)
        file.flush()


class _Counted:
    """An `on_step`, which is called after every network call: both branches of guidance are one call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor, level: Level, denoised: Denoised) -> Tensor:
        self.calls += 1
        return x


def strip(pictures: Tensor) -> Image.Image:
    """uint8 (B, 3, H, W) beside each other."""
    return to_image(torch.cat(list(pictures), dim=2))
