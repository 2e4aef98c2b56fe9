"""Real pictures of which only statistics are left: those that papers' authors hand out, or that were kept here."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.evaluation.extractor import ExtractorIdentity
from latentbrush.evaluation.gather import Gathered
from latentbrush.evaluation.statistics import Moments, moments
from latentbrush.evaluation.statistics_file import FeatureStatistics, read_statistics
from latentbrush.origin import sha256_of

__all__ = ["KnownStatistics", "statistics_of"]

Part = TypeVar("Part")


class KnownStatistics(Gathered):
    """What `gather` would have left behind, from a file of statistics.

    `note`: what cannot be checked, where the file does not say what took its features. UserError for what
    `read_statistics` refuses, and for features of another extractor than `identity`.
    """

    def __init__(self, path: Path, identity: ExtractorIdentity) -> None:
        super().__init__(str(path), identity)
        self.file, self.statistics, self.note = path, read_statistics(path), ""
        said = self.statistics.identity
        if said is None:
            self.note = f"{path} does not say what took its features; make sure that it was {identity.name}"
        elif said != identity:
            raise UserError(
                f"{path} holds features of {said.name} ({said.digest[:15]}, {said.resize}), not of {identity.name} "
                f"({identity.digest[:15]}, {identity.resize}); take the same --extractor"
            )

    @property
    def count(self) -> int:
        """0 where the file neither says it nor holds the features."""
        features = self.statistics.features
        return self.statistics.count or (0 if features is None else len(features))

    @property
    def distinct(self) -> int:
        return self.statistics.distinct or self.count

    @property
    def digest(self) -> str:
        """Of the file; nothing is known of the pixels."""
        return f"file sha256:{sha256_of(self.file)}"

    @property
    def width(self) -> int:
        pooled, features = self.statistics.pooled, self.statistics.features
        return pooled.width if pooled is not None else 0 if features is None else features.shape[1]

    @property
    def moments(self) -> Moments:
        """Those of the file, or of the features in it."""
        if self.statistics.pooled is None and self.statistics.features is not None:
            return moments([self.statistics.features])
        return self._there(self.statistics.pooled, "mu and sigma, which FID compares")

    @property
    def spatial_moments(self) -> Moments:
        return self._there(self.statistics.spatial, "mu_s and sigma_s, which sFID compares")

    @property
    def features(self) -> Tensor:
        return self._there(self.statistics.features, "feats, the features themselves")

    def _there(self, part: Part | None, what: str) -> Part:
        if part is None:
            raise UserError(f"{self.file} holds no {what}; give a folder of pictures, or a file that has them")
        return part


def statistics_of(gathered: Gathered) -> FeatureStatistics:
    """All that is known of a set, to be written to a file."""
    return FeatureStatistics(
        pooled=gathered.moments,
        spatial=None if gathered.spatial is None else gathered.spatial_moments,
        features=gathered.features if gathered.kept else None,
        identity=gathered.identity,
        count=gathered.count,
        distinct=gathered.distinct,
    )
