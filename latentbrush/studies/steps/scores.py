"""What the finished cells of `study steps` say: who is best, who is not told apart from it, how steeply it falls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from latentbrush.evaluation.bootstrap import Interval, frechet_difference, frechet_influences
from latentbrush.studies.steps.routes import Route
from latentbrush.studies.study import Figures

if TYPE_CHECKING:  # the study makes these
    from latentbrush.studies.steps.study import StepsStudy

__all__ = ["CHECK", "CONVERGED", "FLOORS", "Score", "Scores"]

FLOORS, CONVERGED, CHECK = "floors", "converged", "converged-half"
"""Names of the cells that are no sampler's."""
SURE = 3
"""Of the distance between the converged pictures and those of half as many steps, which their own error is below. A
distance of so many times it is off by a third at most, a slope over twice the calls by log2(4 / 3) = 0.4."""


@dataclass(frozen=True)
class Score:
    """Of one route within one budget. `influences`: (n,) of its pictures on its Fréchet distance; `distance`: None
    where there is none."""

    name: str
    calls: int
    fd: float
    influences: Tensor
    distance: float | None
    folder: Path


class Scores:
    """The results of a study, as far as it is done; `folder`: the study's."""

    def __init__(self, study: StepsStudy, results: Mapping[str, Figures], folder: Path) -> None:
        self.study, self.results, self.budgets, self._folder = study, results, study.budgets, folder / "cells"
        self._scores = {
            (way.route.name, way.budget): self._score(way.route.name, way.name)
            for way in study.ways
            if way.name in results
        }

    def _score(self, name: str, cell: str) -> Score:
        figures, folder = self.results[cell], self._folder / cell
        with np.load(folder / "fd.npz") as kept:
            if "influences" in kept:
                influences = torch.from_numpy(kept["influences"])
            else:  # cells of before have resampled distances, which overstate the noise
                _, influences = frechet_influences(torch.from_numpy(kept["features"]), self.study.reference)
        return Score(name, figures["calls"], figures["fd"], influences, figures["distance"], folder)

    def get(self, name: str, budget: int) -> Score | None:
        return self._scores.get((name, budget))

    def of(self, route: Route) -> list[Score]:
        """In rising calls; budgets in which it takes the same steps are one."""
        found = [score for budget in self.budgets if (score := self.get(route.name, budget)) is not None]
        return list({score.calls: score for score in found}.values())

    def ranked(self, budget: int) -> list[Score]:
        """The lowest Fréchet distance first."""
        within = [score for (_, own), score in self._scores.items() if own == budget]
        return sorted(within, key=lambda score: score.fd)

    def difference(self, first: Score, second: Score) -> Interval:
        """Of the second's Fréchet distance less the first's; their pictures have the same captions and seeds."""
        return frechet_difference((first.fd, first.influences), (second.fd, second.influences))

    def alike(self, budget: int) -> list[Score]:
        """Those that are not told apart from the best, without it."""
        ranked = self.ranked(budget)
        return [score for score in ranked[1:] if not self.difference(ranked[0], score).excludes_zero]

    @cached_property
    def converged(self) -> Score | None:
        return self._score(CONVERGED, CONVERGED) if CONVERGED in self.results else None

    @property
    def converged_fd(self) -> float | None:
        return None if self.converged is None else self.converged.fd

    @property
    def check(self) -> float | None:
        """How far half as many steps are from the converged pictures."""
        return self._figure(CHECK, "distance")

    def floor(self, name: str) -> float | None:
        """A Fréchet distance of pictures that nobody painted."""
        return self._figure(FLOORS, name)

    def _figure(self, cell: str, name: str) -> float | None:
        figure: float | None = self.results.get(cell, {}).get(name)
        return figure

    def as_converged(self, budget: int) -> int:
        """How many have a Fréchet distance that is not told apart from that of the converged pictures."""
        goal = self.converged
        return (
            0 if goal is None else sum(not self.difference(score, goal).excludes_zero for score in self.ranked(budget))
        )

    def nearer_than_converged(self) -> list[Score]:
        """Scores whose Fréchet distance is lower than that of the converged pictures, beyond noise."""
        goal = self.converged
        if goal is None:
            return []
        lower = [score for score in self._scores.values() if score.fd < goal.fd]
        return [score for score in lower if self.difference(score, goal).excludes_zero]

    @property
    def measured(self) -> bool:
        """Is there a distance to a converged picture?"""
        return any(score.distance for score in self._scores.values())

    def nearest(self, budget: int) -> Score | None:
        """To its converged pictures."""
        within = [score for score in self.ranked(budget) if score.distance is not None]
        return min(within, key=lambda score: score.distance or math.inf, default=None)

    def slope(self, route: Route) -> float | None:
        """-d log(distance) / d log(calls) between the last two budgets: the order of convergence.

        Distances that are less than `SURE` times `check` are left out: they tell of the converged picture, too.
        """
        least = SURE * (self.check or 0.0)
        points = [
            (score.calls, score.distance) for score in self.of(route) if score.distance and score.distance >= least
        ]
        if len(points) < 2:
            return None
        (calls, distance), (more, less) = points[-2:]
        return -math.log(less / distance) / math.log(more / calls)
