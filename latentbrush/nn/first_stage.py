"""What a model has between pixels and latents: any of the autoencoders, or none."""

from __future__ import annotations

from torch import Tensor

from latentbrush.nn.autoencoder import AutoencoderKL, Posterior
from latentbrush.nn.pixels import Pixels
from latentbrush.nn.tiny_autoencoder import TinyAutoencoder
from latentbrush.nn.vq import VQAutoencoder

__all__ = ["FirstStage", "Tileable", "posterior_of"]

Tileable = AutoencoderKL | VQAutoencoder | Pixels
"""A tiny autoencoder takes too little memory to need tiles."""
FirstStage = Tileable | TinyAutoencoder


def posterior_of(stage: FirstStage, x: Tensor) -> Posterior:
    """What a first stage makes of pictures (B, 3, H, W) in [-1, 1], a certain one where it leaves nothing to chance.

    ValueError as its `encode`.
    """
    encoded = stage.encode(x)
    return encoded if isinstance(encoded, Posterior) else Posterior.point(encoded)
