"""A contrastive recipe that trains on the made-up world in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_world import autoencoder_values

from latentbrush.training import ContrastiveRecipe

TEXT = {
    "vocab_size": 530,
    "width": 8,
    "layers": 1,
    "heads": 2,
    "mlp_width": 8,
    "max_positions": 8,
    "dropout": 0.2,
}
VISION = {"image_size": 8, "patch_size": 4, "width": 16, "layers": 1, "heads": 2, "mlp_width": 16, "dropout": 0.1}


def contrastive_values(world: Path, **changes: Any) -> dict[str, Any]:
    base = autoencoder_values(world)
    del base["autoencoder"]
    return {
        **base,
        "stage": "contrastive",
        "tokenizer": {"vocab_size": 530, "max_length": 8},
        "text": TEXT,
        "vision": VISION,
        "projection": 12,
        **changes,
    }


def contrastive_recipe(world: Path, **changes: Any) -> ContrastiveRecipe:
    return ContrastiveRecipe.model_validate(contrastive_values(world, **changes))
