"""`--strip` and `--animate`: beside each picture, files that show its way from noise."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latentbrush.cli.tables import shown
from latentbrush.errors import UserError
from latentbrush.request import ImageRequest

if TYPE_CHECKING:  # all of these import torch
    from torch import Tensor

    from latentbrush.diffusion import Denoised, Level, OnStep, Plan
    from latentbrush.model import LatentDiffusion
    from latentbrush.viewing import Trajectory

__all__ = ["Views", "print_flagged"]


class Views:
    """The strips and animations of the pictures at `pictures`, painted after `plan`.

    UserError, before any work, where they are asked for and cannot be: no step is run, or this Pillow
    writes no WebP.
    """

    def __init__(self, plan: Plan, pictures: Sequence[Path], *, strip: bool = False, animate: bool = False) -> None:
        self._strips = [path.with_name(f"{path.stem}-strip.png") for path in pictures] if strip else []
        self._animations = [path.with_name(f"{path.stem}-animation.webp") for path in pictures] if animate else []
        self._trajectory: Trajectory | None = None
        if strip or animate:
            self._trajectory = _trajectory(plan, animate=animate)

    @property
    def paths(self) -> list[Path]:
        """All files that will be written."""
        return [*self._strips, *self._animations]

    def watching(self, on_step: OnStep) -> OnStep:
        """An `on_step` that does what the given one does and watches."""
        trajectory = self._trajectory
        if trajectory is None:
            return on_step

        def both(x: Tensor, level: Level, denoised: Denoised) -> Tensor:
            return trajectory(on_step(x, level, denoised), level, denoised)

        return both

    def save(self, model: LatentDiffusion, index: int, place: int, request: ImageRequest) -> None:
        """Write and name what was asked for of picture `index`, at `place` in the batch that was painted last.

        `request`: as served; it says by whom the picture was decoded, and in which tiles.
        """
        if self._trajectory is None:
            return
        from latentbrush.pipeline import decoding
        from latentbrush.viewing import animation, decode_frames, durations, save_animation, save_sheet, strip

        with decoding(model, request) as decoder:
            views = decode_frames(decoder, self._trajectory.frames, place, request.canvas.tiles)
        if self._strips:
            save_sheet(strip(views), self._strips[index])
            print(shown(str(self._strips[index])))
        if self._animations:
            save_animation(animation(views), durations(len(views)), self._animations[index])
            print(shown(str(self._animations[index])))


def print_flagged(path: Path) -> None:
    """Say that a picture is black, and why; its way from noise is not shown either."""
    print(f"latentbrush: {shown(str(path))}: flagged by the safety checker, and so black", file=sys.stderr)


def _trajectory(plan: Plan, *, animate: bool) -> Trajectory:
    from PIL import features

    from latentbrush.viewing import FRAMES, STRIP_COLUMNS, Trajectory

    if not plan.steps:
        raise UserError("no step is run at this strength, so there is no way to show; leave out --strip and --animate")
    if animate and not features.check("webp"):
        raise UserError("this Pillow cannot write WebP; install Pillow from its wheel, or choose --strip alone")
    return Trajectory(plan, FRAMES if animate else STRIP_COLUMNS)
