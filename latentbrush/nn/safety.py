"""The safety checker of Stable Diffusion 1: a picture's CLIP embedding beside those of concepts, each with a threshold.

Rando et al. 2022 (Red-Teaming the Stable Diffusion Safety Filter) describe it; the numbers are those of the checker
that was published with the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentbrush.nn.clip_vision import CLIPVisionConfig, CLIPVisionModel

__all__ = ["SafetyChecker", "SafetyConfig", "SafetyScores"]

CONCEPTS, SPECIAL = 17, 3
STRICTER = 0.01
"""What is added to the scores that follow, once a concept of special care was found."""
DIGITS = 3
"""To which scores are rounded before they are judged."""


@dataclass(frozen=True, kw_only=True)
class SafetyConfig:
    """An image tower, and the width of the space that it shares with the concepts."""

    vision: CLIPVisionConfig
    projection: int = 768

    def __post_init__(self) -> None:
        if self.projection < 1:
            raise ValueError(f"safety checker projection {self.projection} must be at least 1")


@dataclass(frozen=True)
class SafetyScores:
    """By how much each cosine is above its threshold, rounded: `special` (B, 3), `concepts` (B, 17)."""

    special: Tensor
    concepts: Tensor

    @property
    def flags(self) -> Tensor:
        """(B,): whether any concept was found. Those of special care only make the others' thresholds lower."""
        return (self.concepts > 0).any(dim=1)


class SafetyChecker(nn.Module):
    """Pictures (B, c, s, s), scaled as the weights expect -> flags (B,). ValueError for pictures of another shape."""

    def __init__(self, config: SafetyConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = CLIPVisionModel(config.vision)
        self.visual_projection = nn.Linear(config.vision.width, config.projection, bias=False)
        self.concept_embeds = nn.Parameter(torch.ones(CONCEPTS, config.projection))
        self.special_care_embeds = nn.Parameter(torch.ones(SPECIAL, config.projection))
        self.concept_embeds_weights = nn.Parameter(torch.ones(CONCEPTS))
        self.special_care_embeds_weights = nn.Parameter(torch.ones(SPECIAL))

    def cosines(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Of the pictures with the concepts of special care (B, 3) and with the others (B, 17)."""
        seen = F.normalize(self.visual_projection(self.vision_model(pictures)))
        return seen @ F.normalize(self.special_care_embeds).T, seen @ F.normalize(self.concept_embeds).T

    def scores(self, pictures: Tensor) -> SafetyScores:
        special, concepts = self.cosines(pictures)
        columns: list[Tensor] = []
        stricter = torch.zeros_like(special[:, 0])
        for column, threshold in zip(special.unbind(1), self.special_care_embeds_weights, strict=True):
            columns.append((column - threshold + stricter).round(decimals=DIGITS))
            stricter = torch.where(columns[-1] > 0, STRICTER, stricter)
        found = concepts - self.concept_embeds_weights + stricter[:, None]
        return SafetyScores(torch.stack(columns, dim=1), found.round(decimals=DIGITS))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.scores(pictures).flags
