"""A tiny x4 upscaler with random weights, built by diffusers and transformers themselves."""

from __future__ import annotations

from typing import Any

from diffusers import DDIMScheduler, DDPMScheduler, StableDiffusionUpscalePipeline
from tiny import tiny_autoencoder, tiny_pipeline, tiny_scheduler, tiny_unet

UPSCALER_BETAS = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear"}
LEVELS = 360
UNET = {"in_channels": 7, "num_class_embeds": LEVELS, "only_cross_attention": [True, True, False]}


def tiny_upscaler(
    scheduler: type = DDIMScheduler, *, low_res: dict[str, Any] | None = None, **changes: Any
) -> StableDiffusionUpscalePipeline:
    """Its schedule is that of the published one; `low_res`: another for the small pictures."""
    parts = tiny_pipeline("sd2").components
    pipeline = StableDiffusionUpscalePipeline(
        text_encoder=parts["text_encoder"],
        tokenizer=parts["tokenizer"],
        scheduler=tiny_scheduler("sd2", scheduler, **{**UPSCALER_BETAS, **changes}),
        vae=tiny_autoencoder(scaling_factor=0.08333),
        unet=tiny_unet("sd2", **UNET),
        low_res_scheduler=DDPMScheduler(**(low_res or UPSCALER_BETAS)),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
