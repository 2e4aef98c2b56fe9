"""How well a model of the emoji world composes: paint what was held out, and see what it is nearest to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from latentbrush.data.emoji import EmojiRecord
from latentbrush.data.folder import ImageFolder
from latentbrush.data.pixels import to_bytes, to_signed
from latentbrush.diffusion import OnStep, keep
from latentbrush.errors import UserError
from latentbrush.evaluation import (
    Originals,
    PaintedCell,
    PartScore,
    SheetRow,
    composition_parts,
    contact_sheet,
    score_part,
)
from latentbrush.evaluation.nearest import SHIFT
from latentbrush.formats import record_of
from latentbrush.latents import decoded, encoded
from latentbrush.model import LatentDiffusion
from latentbrush.pipeline import paint, plan_of, resolve
from latentbrush.request import Batch, ImageRequest

__all__ = ["Composition", "CompositionStudy", "Painting", "check_size", "reconstructed"]

BATCH = 64
MOST_SEEDS = 100
SEED_STRIDE = 100_000
"""Painting s of record i starts from the noise of seed s * SEED_STRIDE + i, whatever else is painted."""
SHOWN = {"hard": 6, "test": 10, "train": 6}
SHOWN_SEEDS = 4
HEADINGS = {
    "hard": "Held out, hard: this gender was trained in this profession in no skin tone",
    "test": "Held out, the others of the test half: parts trained, combination new",
    "train": "Trained",
}


@dataclass(frozen=True)
class Painting:
    """A picture (3, H, W), uint8, for a record's name, with its seed and the group of originals it is nearest to."""

    record: int
    seed: int
    picture: Tensor
    nearest: int


class CompositionStudy:
    """Composition accuracy of `model` on the emoji world in `folder`, with `seeds` paintings a caption.

    Making one reads and checks everything: UserError for a folder that is no emoji world, seeds outside
    1 .. 100, and a model whose pictures are not square or larger than the originals. `request`: how to paint;
    None for the model's own defaults. Its prompt and seed are not used.
    """

    def __init__(
        self, model: LatentDiffusion, folder: ImageFolder, seeds: int = 4, request: ImageRequest | None = None
    ) -> None:
        if not 1 <= seeds <= MOST_SEEDS:
            raise UserError(f"{seeds} seeds are asked for; choose from 1 to {MOST_SEEDS} (4 is usual)")
        check_size(model, folder)
        self.model, self.seeds = model, seeds
        records = [EmojiRecord.parse(record) for record in folder.records]
        self.parts = composition_parts(records)
        self.originals = Originals(records, folder.load(model.defaults.width))
        self.request = resolve(model, request or ImageRequest(prompt=""))
        self.asked = sorted({i for part in self.parts.values() for i in part})

    @property
    def calls(self) -> int:
        """How often `run` calls its `on_step`."""
        batches = -(-len(self.asked) * self.seeds // BATCH)
        return batches * plan_of(self.model, self.request).calls

    def run(self, on_step: OnStep = keep) -> Composition:
        """Paint and measure; `on_step` is called after every network call of every batch."""
        wanted = [(i, s * SEED_STRIDE + i) for i in self.asked for s in range(self.seeds)]
        paintings = []
        for start in range(0, len(wanted), BATCH):
            paintings += self._paint(wanted[start : start + BATCH], on_step)
        nearest = torch.tensor([painting.nearest for painting in paintings]).reshape(-1, self.seeds)
        rebuilt = self.originals.nearest(reconstructed(self.model, self.originals.pictures[self.asked]))
        row = {record: place for place, record in enumerate(self.asked)}
        scores = {}
        for name, part in self.parts.items():
            rows = [row[i] for i in part]
            scores[name] = score_part(self.originals, part, nearest[rows], rebuilt[rows])
        return Composition(self, scores, paintings)

    def _paint(self, wanted: Sequence[tuple[int, int]], on_step: OnStep) -> list[Painting]:
        names = [self.originals.records[i].name for i, _ in wanted]
        pictures = to_bytes(paint(self.model, names, [seed for _, seed in wanted], self.request, on_step)).cpu()
        nearest = self.originals.nearest(pictures).tolist()
        return [Painting(*one, picture, group) for one, picture, group in zip(wanted, pictures, nearest, strict=True)]


def check_size(model: LatentDiffusion, folder: ImageFolder) -> None:
    """UserError for a model whose pictures are not square, or larger than the originals."""
    width, height = model.defaults.width, model.defaults.height
    side = min(folder.image(0).size)
    if width != height or width > side:
        raise UserError(
            f"the model paints {width}x{height} pixels, the originals in {folder.directory} are {side}x{side}: "
            "give a model of square pictures, no larger than the originals"
        )


def reconstructed(model: LatentDiffusion, pictures: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) through the autoencoder and back."""
    refusal = "the autoencoder's picture of an original is not finite; its weights are damaged: get them anew"
    parts = []
    for part in torch.split(pictures, BATCH):
        latents = encoded(model, to_signed(part)).mode()
        parts.append(to_bytes(decoded(model, latents, lambda _: refusal)).cpu())
    return torch.cat(parts)


@dataclass(frozen=True)
class Composition:
    """What a study found: the figures of every part, and all paintings, record by record, seed by seed."""

    study: CompositionStudy
    scores: dict[str, PartScore]
    paintings: list[Painting]

    @property
    def paintings_of(self) -> Tensor:
        """All of them, uint8 (n, 3, H, W)."""
        return torch.stack([painting.picture for painting in self.paintings])

    def to_json(self) -> dict[str, Any]:
        """All figures; `ceiling` by itself is the test half's."""
        request, originals = self.study.request, self.study.originals
        return {
            "seeds": self.study.seeds,
            "size": request.canvas.width,
            "sampler": request.sampling.sampler,
            "steps": request.sampling.steps,
            "guidance": request.guidance.weight,
            "shift": SHIFT,
            "originals": len(originals.records),
            "distinct": len(originals.distinct),
            "ceiling": round(self.scores["test"].ceiling, 4),
            **{name: score.to_json() for name, score in self.scores.items()},
            "painted_by": self._painted_by(),
        }

    def _painted_by(self) -> dict[str, Any]:
        """The model's files, the machine and the versions, as every picture's record has them."""
        model, request = self.study.model, self.study.request
        steps = len(plan_of(model, request).steps)
        record = record_of(model, request, index=0, batch=Batch(first=0, size=1), steps_run=steps)
        return record.model_dump(mode="json", include={"model", "machine", "versions"})

    def sheet(self, title: str) -> Image.Image:
        """A contact sheet of evenly chosen captions: hard ones, others of the test half, trained ones."""
        shown = {**self.study.parts, "test": [i for i in self.study.parts["test"] if i not in self._hard]}
        sections = {
            HEADINGS[name]: [self._row(i) for i in shown[name][:: max(1, len(shown[name]) // count)][:count]]
            for name, count in SHOWN.items()
            if shown.get(name)
        }
        return contact_sheet(title, sections, [f"painting {s + 1}" for s in range(min(self.study.seeds, SHOWN_SEEDS))])

    def save(self, directory: Path, about: dict[str, str]) -> None:
        """composition.json (`about` first), composition.png and paintings.jsonl, a line a painting."""
        report = json.dumps({**about, **self.to_json()}, indent=2, ensure_ascii=False)
        (directory / "composition.json").write_text(report + "\n", encoding="utf-8")
        lines = [json.dumps(self._line(painting), ensure_ascii=False) + "\n" for painting in self.paintings]
        (directory / "paintings.jsonl").write_text("".join(lines), encoding="utf-8")
        test = self.scores["test"]
        name, right = Path(about.get("model", "model")).name, f"{test.right.accuracy:.0%}"
        title = f"{name}: {right} of the paintings of held-out captions are right (autoencoder: {test.ceiling:.0%})"
        self.sheet(title).save(directory / "composition.png", optimize=True)

    @property
    def _hard(self) -> set[int]:
        return set(self.study.parts.get("hard", []))

    def _row(self, record: int) -> SheetRow:
        originals = self.study.originals
        cells = [self._cell(painting) for painting in self.paintings if painting.record == record]
        return SheetRow(originals.records[record].name, originals.pictures[record], cells[:SHOWN_SEEDS])

    def _cell(self, painting: Painting) -> PaintedCell:
        answer = self.study.originals.judge(painting.record, painting.nearest)
        asked = bool(self.study.originals.records[painting.record].attributes)
        word = "base right" if answer.base else "attributes right" if answer.attributes and asked else ""
        nearest = self.study.originals.distinct[painting.nearest]
        return PaintedCell(painting.picture, nearest, answer.right, "right" if answer.right else word)

    def _line(self, painting: Painting) -> dict[str, Any]:
        originals = self.study.originals
        record = originals.records[painting.record]
        return {
            "file_name": record.file_name,
            "name": record.name,
            "parts": [name for name, part in self.study.parts.items() if painting.record in part],
            "seed": painting.seed,
            "nearest": originals.records[originals.members[painting.nearest][0]].name,
            **originals.judge(painting.record, painting.nearest)._asdict(),
        }
