"""The way of a batch from noise to pictures, kept while it is painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from latentbrush.diffusion import Denoised, Level, Plan

__all__ = ["Frame", "Trajectory", "evenly"]


@dataclass(frozen=True)
class Frame:
    """A batch at one level: `latents`, scaled to unit variance as the network sees them, and the `x0` that it
    saw in them, both (B, c, h, w) on the CPU. `t`: None for the finished latents, which are their own x0."""

    t: float | None
    latents: Tensor
    x0: Tensor


def evenly(count: int, most: int) -> list[int]:
    """At most `most` (2 or more) of the places 0 .. count - 1: the first, the last, and evenly between."""
    return [int(place) for place in np.linspace(0, count - 1, min(count, most)).round()]


class Trajectory:
    """An `on_step` that changes nothing and keeps at most `most` frames of the batch now being painted.

    It sees every network call of any sampler. A sampler that asks twice at one level, as Heun's method does,
    asks the second time about better latents, which replace the first. When a further batch begins, the
    frames of the one before are gone.
    """

    def __init__(self, plan: Plan, most: int) -> None:
        if not plan.steps:
            raise ValueError("a plan without steps has no way to keep")
        self._first = plan.steps[0].at
        # Whole levels, for two of Karras's may have one time, rounded.
        levels = list(dict.fromkeys(step.at for step in plan.steps))
        # The finished latents are the last place, and always kept.
        self._wanted = {levels[place] for place in evenly(len(levels) + 1, most)[:-1]}
        self._asked = self._first
        self._frames: dict[Level | None, Frame] = {}

    @property
    def frames(self) -> list[Frame]:
        """From noise to the finished latents, as far as the batch has come."""
        return list(self._frames.values())

    def __call__(self, x: Tensor, level: Level, denoised: Denoised) -> Tensor:
        """As samplers call it: the new x, the level at which it is read next, what the network said before."""
        if None in self._frames:
            self._frames, self._asked = {}, self._first
        asked = self._asked
        if asked in self._wanted:
            # The first x is in no call's hands. x0, before it is clipped, and eps make up the x that they were told of.
            whole = denoised.x0 if denoised.unclipped is None else denoised.unclipped
            read = asked.mix(whole, denoised.eps) / asked.norm
            self._keep(asked, read, denoised.x0)
        if level.t is None:
            self._keep(None, x, x)
        self._asked = level
        return x

    def _keep(self, asked: Level | None, latents: Tensor, x0: Tensor) -> None:
        t = None if asked is None else asked.t
        assert not isinstance(t, Tensor)
        # Copies, for whoever comes after may change x in place.
        self._frames[asked] = Frame(t, latents.to("cpu", copy=True), x0.to("cpu", copy=True))
