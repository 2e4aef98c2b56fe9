"""What needs more than two sets of pictures: their captions, or what was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from latentbrush.errors import UserError
from latentbrush.evaluation.clip_score import CLIPScorer, CLIPScores
from latentbrush.evaluation.gather import Gathered
from latentbrush.evaluation.measurement import Figure
from latentbrush.evaluation.memorisation import Memorisation, memorisation
from latentbrush.evaluation.metrics import mean_figure

__all__ = ["clip_score", "memorised"]

TEXTS = 256
"""Captions encoded at once."""


def clip_score(
    painted: Gathered, captions: Sequence[str | int | None], scorer: CLIPScorer, seed: int = 0
) -> tuple[dict[str, Figure], CLIPScores]:
    """How well each picture, whose features were gathered by the scorer's own extractor, matches its caption.

    UserError for pictures without captions.
    """
    said = [one for one in captions if isinstance(one, str)]
    if len(said) != painted.count:
        raise UserError(f"{painted.count} pictures have {len(said)} captions; the CLIP score needs one for each")
    parts = [scorer.texts(said[i : i + TEXTS]) for i in range(0, len(said), TEXTS)]
    cosines = (torch.cat(parts).double() * painted.features.double()).sum(1)
    scores = CLIPScores(cosines, sum(bool(scorer.tokenizer.cut(scorer.prefix + one)) for one in said))
    # Pictures of one caption are alike, and count for less than as many of several.
    return {
        "CLIP score": mean_figure(scores.percent, seed, lower=False, clusters=said),
        "2.5 max(cos, 0)": mean_figure(scores.hessel, seed, lower=False, clusters=said),
    }, scores


def memorised(painted: Gathered, train: Gathered, held_out: Gathered) -> tuple[dict[str, Figure], Memorisation]:
    """How near paintings are to what was trained on, beside real pictures that were not."""
    found = memorisation(painted.features, train.features, held_out.features, k=1)
    return {
        f"share nearer than {1 - found.alpha:.0%} of held-out pictures": Figure(
            value=found.share, lower_is_better=True
        ),
        "z (0: as far as held-out ones; below -3: copies)": Figure(value=found.z, lower_is_better=None),
    }, found
