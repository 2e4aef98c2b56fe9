"""Tiny Stable Diffusion XL pipelines with random weights, built by diffusers and transformers themselves."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from diffusers import (
    DiffusionPipeline,
    EulerDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from tiny import (
    MAX_LENGTH,
    WIDTH,
    randomise,
    tiny_autoencoder,
    tiny_scheduler,
    tiny_text_encoder,
    tiny_tokenizer,
    tiny_unet,
)
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

SECOND_WIDTH, PROJECTION, MICRO_WIDTH = 20, 12, 8


def tiny_second_tower(vocab_size: int, seed: int = 3, **changes: Any) -> CLIPTextModelWithProjection:
    config = {
        "vocab_size": vocab_size,
        "hidden_size": SECOND_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 5,
        "max_position_embeddings": MAX_LENGTH,
        "hidden_act": "gelu",
        "projection_dim": PROJECTION,
        "bos_token_id": vocab_size - 2,
        "eos_token_id": 2,  # as in Stable Diffusion XL's own files: the highest id marks the end
        "pad_token_id": 0,
        **changes,
    }
    tower = CLIPTextModelWithProjection(CLIPTextConfig(**config)).eval()
    randomise(tower, seed)
    return tower


def tiny_xl_unet(numbers: int = 6, context: int = WIDTH + SECOND_WIDTH, seed: int = 1, **changes: Any) -> Any:
    """No attention on the finest level, more blocks on the coarser ones."""
    config = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": [1, 2, 3],
        "cross_attention_dim": context,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": MICRO_WIDTH,
        "projection_class_embeddings_input_dim": PROJECTION + numbers * MICRO_WIDTH,
        **changes,
    }
    return tiny_unet("sd2", seed, **config)


def tiny_xl_pipeline(
    kind: str = "base",
    scheduler: type = EulerDiscreteScheduler,
    *,
    unet: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    **changes: Any,
) -> DiffusionPipeline:
    """`kind`: base, refiner (one tower, an aesthetic score) or inpainting. `settings`: of the pipeline."""
    with tempfile.TemporaryDirectory() as directory:
        first = tiny_tokenizer(Path(directory) / "1", "sd1")
        second = tiny_tokenizer(Path(directory) / "2", "sd2")
    refiner = kind == "refiner"
    pipelines = {
        "base": (StableDiffusionXLPipeline, {}),
        "refiner": (
            StableDiffusionXLImg2ImgPipeline,
            {"requires_aesthetics_score": True, "force_zeros_for_empty_prompt": False},
        ),
        "inpainting": (StableDiffusionXLInpaintPipeline, {}),
    }
    made, own = pipelines[kind]
    channels = {"in_channels": 9} if kind == "inpainting" else {}
    shape = {"numbers": 5, "context": SECOND_WIDTH} if refiner else {}
    pipeline = made(
        vae=tiny_autoencoder(scaling_factor=0.13025),
        text_encoder=None if refiner else tiny_text_encoder("sd1", len(first)),
        text_encoder_2=tiny_second_tower(len(second)),
        tokenizer=None if refiner else first,
        tokenizer_2=second,
        unet=tiny_xl_unet(**{**shape, **channels, **(unet or {})}),
        scheduler=tiny_scheduler("sd1", scheduler, **{"timestep_spacing": "leading", **changes}),
        add_watermarker=False,
        **{**own, **(settings or {})},
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
