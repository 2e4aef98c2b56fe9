"""A recipe of a VQ first stage that trains on the made-up world in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_world import AUTOENCODER, autoencoder_values

from latentbrush.training import VQAutoencoderRecipe

VQ: dict[str, Any] = {**AUTOENCODER, "codebook_size": 40}


def vq_values(world: Path, **changes: Any) -> dict[str, Any]:
    """f = 2, latents 2 x 4 x 4: 96 cells in a batch of 6. Some entries die every few steps."""
    codebook = {"restart_after": 3, **changes.pop("codebook", {})}
    values = autoencoder_values(world, regulariser="vq", autoencoder=VQ, codebook=codebook)
    return values | changes


def vq_recipe(world: Path, **changes: Any) -> VQAutoencoderRecipe:
    return VQAutoencoderRecipe.model_validate(vq_values(world, **changes))
