"""What the finished factors say: Fréchet distance at equal steps, and at equal compute."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentbrush.studies.steps.paired import Difference, difference
from latentbrush.studies.study import Figures

__all__ = ["Point", "Scores", "Track"]


@dataclass(frozen=True)
class Point:
    """A model at one moment of its training. `resampled`: (tries,) Fréchet distances of resampled sets."""

    factor: int
    step: float
    tflop: float
    fd: float
    resampled: Tensor

    def less(self, other: Point) -> Difference:
        """Of this one's Fréchet distance less the other's."""
        return difference((other.fd, other.resampled), (self.fd, self.resampled))


@dataclass(frozen=True)
class Track:
    """One factor's training, in rising steps, and the figures of its cell."""

    factor: int
    points: tuple[Point, ...]
    figures: Figures

    @property
    def last(self) -> Point:
        return self.points[-1]

    def at(self, tflop: float) -> Point | None:
        """With so much compute, straight between measurements in its logarithm; the last where it was trained with
        less, None before the first."""
        if tflop < self.points[0].tflop * (1 - 1e-9):
            return None
        for low, high in zip(self.points, self.points[1:], strict=False):
            if low.tflop <= tflop < high.tflop:
                part = math.log(tflop / low.tflop) / math.log(high.tflop / low.tflop)
                mix = torch.lerp(low.resampled, high.resampled, part)
                return Point(self.factor, math.nan, tflop, low.fd + part * (high.fd - low.fd), mix)
        return self.last if tflop >= self.last.tflop else self.points[0]

    @property
    def late_slope(self) -> float | None:
        """-d log(FD) / d log(steps) from about half way to the end: how much it still gains."""
        half = min(self.points, key=lambda point: abs(point.step - self.last.step / 2))
        if half.step >= self.last.step or min(half.fd, self.last.fd) <= 0:
            return None
        return -math.log(self.last.fd / half.fd) / math.log(self.last.step / half.step)


class Scores:
    """`folder`: the study's."""

    def __init__(self, results: Mapping[str, Figures], folder: Path) -> None:
        tracks = [_track(figures, folder / "cells" / name) for name, figures in results.items()]
        self.tracks = {track.factor: track for track in sorted(tracks, key=lambda one: one.factor)}

    @property
    def budgets(self) -> list[float]:
        """Where some factor's training ends: there all that reach so far are compared."""
        return sorted(track.last.tflop for track in self.tracks.values())

    def within(self, tflop: float) -> list[Point]:
        """The best with at most so much compute first."""
        points = [point for track in self.tracks.values() if (point := track.at(tflop)) is not None]
        return sorted(points, key=lambda point: point.fd)

    def at_the_end(self) -> list[Point]:
        """After the same number of steps, the best first."""
        return sorted((track.last for track in self.tracks.values()), key=lambda point: point.fd)


def alike(ranked: Sequence[Point]) -> list[Point]:
    """Those that are not told apart from the first, without it."""
    return [point for point in ranked[1:] if not point.less(ranked[0]).is_told]


def _track(figures: Mapping[str, Any], folder: Path) -> Track:
    points = []
    for row in figures["measured"]:
        with np.load(folder / f"fd-{row['step']:06d}.npz") as kept:
            resampled = torch.from_numpy(kept["resampled"])
        points.append(Point(figures["factor"], row["step"], row["tflop"], row["fd"], resampled))
    return Track(figures["factor"], tuple(points), figures)
