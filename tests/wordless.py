"""A tiny model of our own that reads no words, of pixels or of latents."""

from __future__ import annotations

from typing import Any

import torch

from latentbrush.conditioning import LabelConditioner
from latentbrush.model import LatentDiffusion, ModelDefaults
from latentbrush.nn import FirstStage, PixelConfig, Pixels, UNet2D, UNet2DConfig, VQAutoencoder, VQConfig


def wordless_model(*, classes: int | None = None, latent: bool = False, **options: Any) -> LatentDiffusion:
    """8 x 8 pictures in 3 steps of DDIM, f = 2 with a VQ autoencoder or none; random weights, always the same."""
    unet = UNet2D(
        UNet2DConfig(
            sample_size=4 if latent else 8,
            channels=(8, 8),
            layers_per_block=1,
            attention=(False, True),
            groups=4,
            classes=classes,
        )
    )
    stage: FirstStage = Pixels(PixelConfig(sample_size=8))
    if latent:
        stage = VQAutoencoder(
            VQConfig(channels=(8, 8), layers_per_block=1, mid_attention=False, groups=4, codebook_size=9, sample_size=8)
        )
    generator = torch.Generator().manual_seed(0)
    for network in (unet, stage):
        for name, parameter in network.named_parameters():
            # Initialisation leaves the UNet's output zero; here every number is its own.
            noise = torch.randn(parameter.shape, generator=generator)
            ones = parameter.ndim == 1 and name.endswith("weight")
            scale = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            parameter.data.copy_(scale * noise + ones)
        network.eval()
    defaults = ModelDefaults(steps=3, guidance=1.0, width=8, height=8)
    given = {"plan_options": {"spacing": "leading"}, "defaults": defaults, "clip": None if latent else 1.0} | options
    return LatentDiffusion(stage, unet, LabelConditioner(classes).eval(), **given)
