"""Tiny CLIPs with random weights, theirs and ours, and what to ask them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny import MAX_LENGTH, randomise
from torch import Tensor
from transformers import CLIPConfig as TheirConfig
from transformers import CLIPModel as TheirModel

from latentbrush.nn import CLIPConfig, CLIPModel, CLIPTextConfig
from latentbrush.nn import CLIPVisionConfig as OurVisionConfig

VOCABULARY, SIDE = 560, 12
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": MAX_LENGTH,
    "bos_token_id": VOCABULARY - 2,
    "eos_token_id": VOCABULARY - 1,
    "pad_token_id": 0,
}
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": 4,
}


def their_clip(directory: Path, act: str = "quick_gelu", *, eos: int = VOCABULARY - 1) -> TheirModel:
    """A tiny CLIPModel with every parameter random, saved in `directory`."""
    text, vision = TEXT | {"hidden_act": act, "eos_token_id": eos}, VISION | {"hidden_act": act}
    model = TheirModel(TheirConfig(text_config=text, vision_config=vision, projection_dim=20)).eval()
    # `randomise` knows no scalars.
    for part in (model.text_model, model.vision_model, model.text_projection, model.visual_projection):
        randomise(part, 1)
    torch.nn.init.constant_(model.logit_scale, 3.25)
    model.save_pretrained(directory)
    return model


def tokens_of(*, end: int) -> Tensor:
    """Rows with their end at different places, then another end, padding and, late, a higher id."""
    tokens = torch.randint(3, 500, (4, MAX_LENGTH), generator=torch.Generator().manual_seed(3))
    for row, place in enumerate((2, 5, 9, MAX_LENGTH - 1)):
        tokens[row, place] = end
    tokens[0, 7] = tokens[1, 6] = end
    tokens[1, 12] = VOCABULARY - 1
    return tokens


def pictures_of(side: int = SIDE, seed: int = 5) -> Tensor:
    return torch.randn((4, 3, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tiny_clip(*, eos_id: int | None) -> CLIPModel:
    torch.manual_seed(0)
    text = CLIPTextConfig(vocab_size=VOCABULARY, width=24, layers=2, heads=3, mlp_width=40, max_positions=MAX_LENGTH)
    vision = OurVisionConfig(width=16, layers=1, heads=2, mlp_width=16, image_size=8, patch_size=4)
    return CLIPModel(CLIPConfig(text=text, vision=vision, projection=20, eos_id=eos_id)).eval()
