"""Composition accuracy: is what is painted for a held-out caption nearest to the original it names?

The emoji world holds out *combinations* whose parts were all trained on. Asked for one by its name, a model
that has learnt to compose paints a picture that lies nearer to the held-out original than to any other emoji.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latentbrush.data.emoji import EmojiRecord
from latentbrush.data.emoji.split import SPLITS
from latentbrush.errors import UserError
from latentbrush.evaluation.nearest import identical_groups, shifted_distances
from latentbrush.evaluation.shares import clustered_interval

__all__ = ["Judgement", "Originals", "PartScore", "Share", "composition_parts", "score_part"]

SAMPLE = 100
"""Training pictures asked for beside the held-out ones."""


def composition_parts(records: Sequence[EmojiRecord]) -> dict[str, list[int]]:
    """Who is asked for: indices into `records` by the name of the part. An empty part is left out.

    `validation` chooses checkpoints, `test` is what to report, and `hard` are the pairs of gender and profession in
    the test half that were trained in no tone. `train` is every so many-th training picture, and
    `train_same_people` are trained variants of the people in the test half, which differ from what was held
    out in nothing but having been trained. UserError where validation or test have no picture.
    """
    of_split = {split: [i for i, record in enumerate(records) if record.split == split] for split in SPLITS}
    for split in ("validation", "test"):
        if not of_split[split]:
            raise UserError(f"the data have no picture in the split {split!r}; build the emoji world anew")
    people = {records[i].base for i in of_split["test"] if records[i].attributes}
    same = [i for i in of_split["train"] if records[i].base in people and records[i].attributes]
    parts = {
        "validation": of_split["validation"],
        "test": of_split["test"],
        "hard": [i for i in of_split["test"] if records[i].hard],
        "train_same_people": _sample(same),
        "train": _sample(of_split["train"]),
    }
    return {name: chosen for name, chosen in parts.items() if chosen}


def _sample(indices: list[int]) -> list[int]:
    return indices[:: max(1, len(indices) // SAMPLE)][:SAMPLE]


class Judgement(NamedTuple):
    """`right`: the very emoji; `base`: the right person or thing; `attributes`: the right tone, hair, beard."""

    right: bool
    base: bool
    attributes: bool


class Originals:
    """The distinct pictures of an emoji world: what a painting is compared with.

    Emoji whose pictures are identical at this size are one group, called by all their names. `records`: N;
    `pictures`: their uint8 (N, 3, H, W); `group`: the group of each; `distinct`: (G, 3, H, W).
    """

    def __init__(self, records: Sequence[EmojiRecord], pictures: Tensor) -> None:
        if len(records) != len(pictures):
            raise ValueError(f"{len(records)} records and {len(pictures)} pictures differ in number")
        self.records, self.pictures = list(records), pictures
        self.group: list[int] = identical_groups(pictures).tolist()
        self.members: list[list[int]] = [[] for _ in range(max(self.group) + 1)]
        for i, group in enumerate(self.group):
            self.members[group].append(i)
        self.distinct = pictures[[members[0] for members in self.members]]
        self._with_base = Counter(base for names in self.members for base in {self.records[i].base for i in names})
        self._with_attributes = Counter(
            attributes for names in self.members for attributes in {self.records[i].attributes for i in names}
        )

    def nearest(self, painted: Tensor) -> Tensor:
        """The groups (B,) nearest to uint8 (B, 3, H, W); of equally near ones, the first."""
        return shifted_distances(painted, self.distinct).argmin(1)

    def judge(self, wanted: int, group: int) -> Judgement:
        """What a painting that was to be record `wanted`, and is nearest to `group`, has right.

        Base and attributes are those of the record's name: the base holds gender, profession, shape and colour
        ('man student', 'purple heart'), the attributes tone, hair and beard. No attributes are
        right where none were asked for. Any member of the group will do.
        """
        record = self.records[wanted]
        found = [self.records[i] for i in self.members[group]]
        return Judgement(
            right=self.group[wanted] == group,
            base=any(one.base == record.base for one in found),
            attributes=any(one.attributes == record.attributes for one in found),
        )

    def chance(self, wanted: int) -> tuple[float, float, float]:
        """How often `judge` says yes to a group drawn at random, in its order."""
        record, groups = self.records[wanted], len(self.members)
        return 1 / groups, self._with_base[record.base] / groups, self._with_attributes[record.attributes] / groups


@dataclass(frozen=True)
class Share:
    """A share of paintings, with its 95% interval and what pointing at any emoji would give."""

    accuracy: float
    interval: tuple[float, float]
    chance: float

    def to_json(self) -> dict[str, Any]:
        low, high = (round(bound, 4) for bound in self.interval)
        return {"accuracy": round(self.accuracy, 4), "interval": [low, high], "chance": round(self.chance, 5)}


@dataclass(frozen=True)
class PartScore:
    """The figures of one part; `by_seed`: the accuracy of each seed alone; `ceiling`: of the autoencoder."""

    emoji: int
    right: Share
    base: Share
    attributes: Share
    by_seed: list[float]
    ceiling: float

    def to_json(self) -> dict[str, Any]:
        return {
            "emoji": self.emoji,
            **self.right.to_json(),
            "by_seed": [round(share, 4) for share in self.by_seed],
            "ceiling": round(self.ceiling, 4),
            "base": self.base.to_json(),
            "attributes": self.attributes.to_json(),
        }


def score_part(originals: Originals, wanted: Sequence[int], nearest: Tensor, rebuilt: Tensor) -> PartScore:
    """The figures for the n records `wanted`.

    `nearest`: (n, S), the group nearest to each of S paintings; `rebuilt`: (n,), the one nearest to the
    autoencoder's reconstruction of the original. Intervals take families (the same person or thing in any
    tone, gender and hair) as clusters, see `clustered_interval`.
    """
    answers = torch.tensor(
        [[originals.judge(i, group) for group in row] for i, row in zip(wanted, nearest.tolist(), strict=True)],
        dtype=torch.float64,
    )  # (n, S, 3)
    chance = torch.tensor([originals.chance(i) for i in wanted], dtype=torch.float64).mean(0).tolist()
    families = [originals.records[i].family for i in wanted]
    right, base, attributes = (
        Share(float(answers[..., k].mean()), clustered_interval(answers[..., k], families), chance[k])
        for k in range(len(Judgement._fields))
    )
    ceiling = [originals.group[i] == group for i, group in zip(wanted, rebuilt.tolist(), strict=True)]
    by_seed = answers[..., 0].mean(0).tolist()
    return PartScore(len(wanted), right, base, attributes, by_seed, sum(ceiling) / len(ceiling))
