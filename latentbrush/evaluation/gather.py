"""What a set of pictures leaves behind for the metrics: gathered part by part, by one process or several."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from latentbrush.errors import UserError
from latentbrush.evaluation.extractor import Extractor, ExtractorIdentity, Features
from latentbrush.evaluation.sets import PictureSet
from latentbrush.evaluation.statistics import Moments, RunningMoments

__all__ = ["Gathered", "gather"]

BATCH = 64


@dataclass
class Gathered:
    """Of `count` pictures of `size` (height, width): moments of their features, whose memory does not grow with them,
    and, where they were `kept`, the features and logits themselves.

    `prints`: a number a picture, equal for equal pictures, in any order.
    """

    name: str
    identity: ExtractorIdentity
    size: tuple[int, int] | None = None
    running: RunningMoments = field(default_factory=RunningMoments)
    spatial: RunningMoments | None = None
    kept: dict[int, Features] = field(default_factory=dict)
    prints: array[int] = field(default_factory=lambda: array("q"))

    @property
    def count(self) -> int:
        return self.running.count

    @property
    def width(self) -> int:
        """Numbers in a feature."""
        return self.running.width

    @property
    def moments(self) -> Moments:
        return self.running.finish()

    @property
    def features(self) -> Tensor:
        """(n, d), in the order of the set. ValueError where they were not kept."""
        return torch.cat([part.pooled for part in self._parts()])

    @property
    def logits(self) -> Tensor:
        """(n, k), in the order of the set. UserError for an extractor without classes."""
        return torch.cat([part.logits_or_refuse() for part in self._parts()])

    @property
    def spatial_moments(self) -> Moments:
        """UserError for an extractor without features of places."""
        if self.spatial is None:
            name = self.identity.name
            raise UserError(f"sFID needs features of places, which {name} has not; give Inception's weights")
        return self.spatial.finish()

    @property
    def distinct(self) -> int:
        """How many pictures are left when equal ones are counted once."""
        return len(set(self.prints))

    @property
    def digest(self) -> str:
        """Of the pictures as they were seen, whatever their order: equal sets have equal ones."""
        return digest_of_prints(self.prints)

    def add(self, place: int, pictures: Tensor, features: Features, *, keep: bool) -> None:
        """One part: uint8 (b, 3, H, W) and its features; `place`: its number in the set."""
        size = (pictures.shape[-2], pictures.shape[-1])
        if self.size not in (None, size):
            assert self.size is not None
            raise UserError(
                f"{self.name}: pictures of {size[1]}x{size[0]} follow pictures of {self.size[1]}x{self.size[0]}; bring "
                "all to one size with --size"
            )
        self.size = size
        try:
            self.running.add(features.pooled)
            if features.spatial is not None:
                self.spatial = (self.spatial or RunningMoments()).add(features.spatial)
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from None
        # One buffer that grows: small tensors, kept among large ones that come and go, would leave holes in memory.
        self.prints.frombytes(fingerprints(pictures).numpy().tobytes())
        if keep:
            self.kept[place] = Features(features.pooled, logits=features.logits)

    def merge(self, other: Gathered) -> Gathered:
        """All that another process has gathered of the same set, too. Returns itself."""
        if other.count == 0:
            return self
        if self.size not in (None, other.size):
            raise UserError(f"{self.name}: its pictures are of unlike sizes; bring all to one size with --size")
        self.size = other.size
        self.running.merge(other.running)
        if other.spatial is not None:
            self.spatial = (self.spatial or RunningMoments()).merge(other.spatial)
        self.kept |= other.kept
        self.prints += other.prints
        return self

    def _parts(self) -> list[Features]:
        if not self.kept:
            raise ValueError("the features were not kept; gather with keep=True")
        return [self.kept[place] for place in sorted(self.kept)]


def gather(
    pictures: PictureSet,
    extractor: Extractor,
    *,
    keep: bool = False,
    batch: int = BATCH,
    share: tuple[int, int] = (0, 1),
    on_part: Callable[[int, int], None] | None = None,
) -> Gathered:
    """Read, look at and forget the pictures, `batch` at a time.

    `keep`: the features, too, which KID, precision and recall and intervals need: 4 n d bytes. `share`: (rank, world):
    every world-th part, from the rank-th on; merged, all shares are the whole. `on_part`: told how many of how many
    are done.
    """
    gathered = Gathered(pictures.name, extractor.identity)
    for place, first, end in _parts(len(pictures), batch, share):
        part = pictures.read(first, end)
        gathered.add(place, part, extractor(part), keep=keep)
        if on_part is not None:
            on_part(end, len(pictures))
    return gathered


def _parts(count: int, batch: int, share: tuple[int, int]) -> Iterator[tuple[int, int, int]]:
    rank, world = share
    for place, first in enumerate(range(0, count, batch)):
        if place % world == rank:
            yield place, first, min(first + batch, count)


def digest_of_prints(prints: Iterable[int]) -> str:
    """Of a set of pictures by the `fingerprints` of each, whatever their order."""
    return f"{sum(prints) % 2**64:016x}"


def fingerprints(pictures: Tensor) -> Tensor:
    """(b,) int64, equal for equal pictures of one size; unlike ones share a number with a chance of about 2^-60.

    Eight bytes at a time are mixed with a random odd number of their place (multiply, fold, multiply), and summed
    modulo 2^64.
    """
    flat = pictures.flatten(1).cpu().contiguous()
    words = F.pad(flat, (0, -flat.shape[1] % 8)).view(torch.int64)
    generator = torch.Generator().manual_seed(0)
    odd = torch.randint(-(2**62), 2**62, (words.shape[1],), generator=generator) * 2 + 1
    mixed = words * odd
    # Products move differences up; the fold brings them down again, where the second one spreads them.
    return ((mixed ^ (mixed >> 32)) * odd).sum(1)
