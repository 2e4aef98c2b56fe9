"""What a page shows beside figures: the pictures that they are of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latentbrush.data.pixels import to_image
from latentbrush.evaluation.memorisation import Memorisation
from latentbrush.evaluation.sets import PictureSet
from latentbrush.reporting import Grid, Item, Paragraph, Picture, Series, line_plot
from latentbrush.studies.likelihood import Bits

__all__ = ["bits_plot", "nearest_pairs", "pairs", "score_extremes", "some_pictures"]

SHOWN = 12
SIDE = 64
"""Pixels a side to which small pictures are enlarged at the most, by whole factors."""


def some_pictures(pictures: PictureSet, captions: Sequence[str | int | None] | None = None) -> list[Item]:
    """An even selection of a set."""
    chosen = _evenly(len(pictures))
    return [Grid([_shown(_one(pictures, i), "" if captions is None else str(captions[i] or "")) for i in chosen])]


def pairs(first_name: str, first: PictureSet, second_name: str, second: PictureSet) -> list[Item]:
    """An even selection of two sets, one beside the other."""
    shown = [_shown(_beside(_one(first, i), _one(second, i))) for i in _evenly(len(first))]
    return [Paragraph(f"{first_name.capitalize()} on the left, {second_name} on the right."), Grid(shown)]


def nearest_pairs(pictures: PictureSet, train: PictureSet, found: Memorisation) -> list[Item]:
    """The paintings that lie nearest to a training picture, with it."""
    distances = found.paintings.distances[:, 0]
    shown = []
    for i in distances.argsort()[: SHOWN // 2].tolist():
        j = int(found.paintings.indices[i, 0])
        shown.append(_shown(_beside(_one(pictures, i), _one(train, j)), f"{distances[i]:.3g}"))
    told = f"Of held-out pictures {found.alpha:.0%} lie nearer than {found.threshold:.3g} to a training picture."
    lead = "The paintings nearest to a training picture, which stands on the right, with their distance."
    return [Paragraph(f"{lead} {told}"), Grid(shown)]


def score_extremes(pictures: PictureSet, captions: Sequence[str | int | None], scores: Tensor) -> list[Item]:
    """The pictures that match their captions best and worst."""
    order = scores.argsort(descending=True).tolist()
    half = SHOWN // 2

    def grid(chosen: list[int]) -> Grid:
        return Grid([_shown(_one(pictures, i), f"{captions[i]}: {scores[i]:.1f}") for i in chosen])

    return [Paragraph("Best matched:"), grid(order[:half]), Paragraph("Worst matched:"), grid(order[-half:])]


def bits_plot(found: Bits) -> list[Item]:
    """Distortion against rate (Ho et al. 2020, figure 5)."""
    curve = found.curve
    unit = "root mean square error, 1/255" if found.bare else "root mean square error of latents"
    line = Series("model", curve.rate.tolist(), curve.distortion.tolist())
    title = "What the bits buy: distortion of the estimate against the bits sent"
    plot = line_plot([line], x="rate (bits per dimension)", y=unit, title=title)
    return [Picture(plot, "distortion against rate")]


def _evenly(count: int) -> list[int]:
    shown = min(SHOWN, count)
    return [i * count // shown for i in range(shown)]


def _one(pictures: PictureSet, i: int) -> Tensor:
    return pictures.read(i, i + 1)[0]


def _beside(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat([first, second], dim=-1)


def _shown(picture: Tensor, caption: str = "") -> Picture:
    image = to_image(picture)
    return Picture(image, caption or "picture", caption, width=image.width * max(1, SIDE // image.height))
