"""CLIP: both towers, projected to where a caption lies close to its picture (Radford et al. 2021, section 2.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentbrush.nn.clip import CLIPTextConfig, CLIPTextModel, check_end, end_state
from latentbrush.nn.clip_vision import CLIPVisionConfig, CLIPVisionModel
from latentbrush.nn.linear import Linear

__all__ = ["INITIAL_LOGIT_SCALE", "CLIPConfig", "CLIPModel"]

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)
"""The logarithm of the inverse temperature that training starts from (section 2.5)."""


@dataclass(frozen=True, kw_only=True)
class CLIPConfig:
    """Two towers and the width of the space they share.

    `eos_id`: the token whose first place sums up the text. None for files from before transformers 4.31,
    whose eos_token_id is a wrong 2: there the highest id marks the end, as in OpenAI's own vocabulary.
    """

    text: CLIPTextConfig
    vision: CLIPVisionConfig
    projection: int = 512
    eos_id: int | None = 49407

    def __post_init__(self) -> None:
        if self.projection < 1:
            raise ValueError(f"CLIP projection {self.projection} must be at least 1")
        check_end(self.eos_id, self.text.vocab_size)


class CLIPModel(nn.Module):
    """Captions and pictures -> unit vectors of one space, whose cosine says how well they match."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.text_model = CLIPTextModel(config.text)
        self.vision_model = CLIPVisionModel(config.vision)
        self.text_projection = Linear(config.text.width, config.projection, bias=False)
        self.visual_projection = Linear(config.vision.width, config.projection, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(INITIAL_LOGIT_SCALE))
        for layer in (self.text_projection, self.visual_projection):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """(B, n) -> (B, projection) of length 1. Tokens behind the end change nothing: the tower is causal.

        A row without the end token is summed up by its first place, as transformers does.
        """
        pooled = end_state(self.text_model(tokens), tokens, self.config.eos_id)
        return F.normalize(self.text_projection(pooled), dim=-1)

    def encode_image(self, pictures: Tensor) -> Tensor:
        """(B, c, s, s), scaled as the weights expect -> (B, projection) of length 1."""
        return F.normalize(self.visual_projection(self.vision_model(pictures)), dim=-1)

    def forward(self, tokens: Tensor, pictures: Tensor) -> Tensor:
        """Logits (texts, pictures): cosines times exp(logit_scale)."""
        return self.logit_scale.exp() * self.encode_text(tokens) @ self.encode_image(pictures).T
