"""From the frames of a trajectory to what people look at: a strip and an animation of one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from latentbrush.data.pixels import to_image
from latentbrush.latents import Tiling, decoded
from latentbrush.model import LatentDiffusion
from latentbrush.request import Tiles
from latentbrush.viewing.sheet import PAPER, labelled_sheet
from latentbrush.viewing.trajectory import Frame, evenly

__all__ = ["FRAMES", "STRIP_COLUMNS", "View", "animation", "decode_frames", "durations", "strip"]

STRIP_COLUMNS = 10
FRAMES = 48
"""The most frames of an animation: at 512 pixels, each costs two decodings of about a second on a CPU."""
FRAME_TIME, FIRST_TIME, LAST_TIME = 120, 600, 2000
"""How long frames are shown, in milliseconds."""
ANIMATED_LEAST, ANIMATED_MOST = 256, 512


@dataclass(frozen=True)
class View:
    """One frame of one picture, decoded: the noisy latents, and the picture that the network saw in them."""

    t: float | None
    latents: Image.Image
    x0: Image.Image

    @property
    def label(self) -> str:
        return "finished" if self.t is None else f"t = {self.t:.0f}"


def decode_frames(model: LatentDiffusion, frames: Sequence[Frame], place: int, tiles: Tiles = "auto") -> list[View]:
    """The picture at `place` of the batch, frame by frame, one decoding at a time to spare memory.

    `tiles`: as the picture's request says. UserError for a frame that is not finite in float32 either, though the
    picture may be.
    """
    tiling = Tiling(tiles)

    def shown(latents: Tensor, t: float | None) -> Image.Image:
        where = "at the end" if t is None else f"at t = {t:.0f}"
        refusal = f"the way from noise is not finite {where}; choose less guidance or more steps, or do without it"
        return to_image(decoded(model, latents[place : place + 1], lambda _: refusal, tiling)[0])

    views = []
    for frame in frames:
        latents = shown(frame.latents, frame.t)
        views.append(View(frame.t, latents, latents if frame.t is None else shown(frame.x0, frame.t)))
    return views


def strip(views: Sequence[View], columns: int = STRIP_COLUMNS) -> Image.Image:
    """A sheet from noise to picture: latents above, estimates of x0 below, at most `columns` steps."""
    shown = [views[place] for place in evenly(len(views), columns)]
    rows = {"latents": [view.latents for view in shown], "estimate\nof x0": [view.x0 for view in shown]}
    return labelled_sheet([view.label for view in shown], rows)


def animation(views: Sequence[View]) -> list[Image.Image]:
    """A frame a view, all of one size: latents on the left, the estimate of x0 on the right."""
    sheets = [
        labelled_sheet(
            [f"latents, {view.label}", "estimate of x0"],
            {"": [view.latents, view.x0]},
            least=ANIMATED_LEAST,
            most=ANIMATED_MOST,
        )
        for view in views
    ]
    # Below narrow pictures, labels of unlike lengths make sheets of unlike widths.
    size = (max(sheet.width for sheet in sheets), sheets[0].height)
    frames = [Image.new("RGB", size, PAPER) for _ in sheets]
    for frame, sheet in zip(frames, sheets, strict=True):
        frame.paste(sheet, (0, 0))
    return frames


def durations(frames: int) -> list[int]:
    """How long each of so many frames (at least 2) is shown, in milliseconds: the ends longer."""
    return [FIRST_TIME, *[FRAME_TIME] * (frames - 2), LAST_TIME]
