"""Tiny pipelines without words, with random weights, built by diffusers itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline, LDMPipeline, UNet2DModel, VQModel
from tiny import randomise

SAMPLE_SIZE, FACTOR = 8, 4


def tiny_unet2d(seed: int = 1, **changes: Any) -> UNet2DModel:
    """Three levels, the middle one with attention of four heads."""
    config = {
        "sample_size": SAMPLE_SIZE,
        "block_out_channels": (8, 16, 16),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 4,
        **changes,
    }
    unet = UNet2DModel(**config).eval()
    randomise(unet, seed)
    return unet


def tiny_vq(seed: int = 3, **changes: Any) -> VQModel:
    config = {
        "block_out_channels": (8, 16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "num_vq_embeddings": 40,
        "scaling_factor": 0.7,
        "sample_size": SAMPLE_SIZE * FACTOR,
        **changes,
    }
    autoencoder = VQModel(**config).eval()
    randomise(autoencoder, seed)
    return autoencoder


def save_wordless(directory: Path, pipeline: type, scheduler: Any, **changes: Any) -> DiffusionPipeline:
    """Build a pipeline of this class, save it with diffusers' own `save_pretrained`, and return it. Latents of
    8 x 8 x 3; `changes`: of the UNet."""
    parts = {"vqvae": tiny_vq()} if pipeline is LDMPipeline else {}
    result = pipeline(unet=tiny_unet2d(**changes), scheduler=scheduler, **parts)
    result.save_pretrained(directory)
    return result
