"""Tiny Stable Diffusion pipelines with random weights, built by diffusers and transformers themselves."""

from __future__ import annotations

import inspect
import tempfile
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from latentbrush.conditioning import SpecialTokens, Tokenizer, train_tokenizer

Kind = Literal["sd1", "sd2"]
TEXTS = ["a red cat on a sofa", "a blue dog, it's a dog!", "빨간 하트와 파란 고양이", "the cat and the dog"]
MAX_LENGTH = 16
WIDTH = 24
FACTOR = 4
SAMPLE_SIZE = 8
# Stable Diffusion's schedule, which all three of the family's usual schedulers share.
BETAS: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


def randomise(network: nn.Module, seed: int) -> None:
    """Fill every parameter with numbers of its own, norms and biases too, so that no two can be mistaken."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(network.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.copy_(0.1 * noise + (1.0 if name.endswith("weight") else 0.0))
            else:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)


def tiny_tokenizer(directory: Path, kind: Kind) -> CLIPTokenizer:
    """A vocabulary of our own as transformers reads it; like the real ones, sd2 pads with '!'."""
    trained = train_tokenizer(TEXTS * 3, 560, MAX_LENGTH)
    special = SpecialTokens(pad="!" if kind == "sd2" else "<|endoftext|>")
    Tokenizer(trained.vocab, trained.merges, max_length=MAX_LENGTH, special=special).save(directory)
    return CLIPTokenizer.from_pretrained(directory)


def tiny_text_encoder(kind: Kind, vocab_size: int, seed: int = 0, **changes: Any) -> CLIPTextModel:
    """sd1: OpenAI's activation; sd2: OpenCLIP's."""
    config = {
        "vocab_size": vocab_size,
        "hidden_size": WIDTH,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "max_position_embeddings": MAX_LENGTH,
        "hidden_act": "quick_gelu" if kind == "sd1" else "gelu",
        "bos_token_id": vocab_size - 2,
        "eos_token_id": vocab_size - 1,
        "pad_token_id": 0,
        **changes,
    }
    encoder = CLIPTextModel(CLIPTextConfig(**config)).eval()
    randomise(encoder, seed)
    return encoder


def tiny_unet(kind: Kind, seed: int = 1, **changes: Any) -> UNet2DConditionModel:
    """sd1: 1x1 convolutions around the attention, as many heads on every level; sd2: linear, per level."""
    config = {
        "sample_size": SAMPLE_SIZE,
        "block_out_channels": (16, 32, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 2,
        "norm_num_groups": 8,
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 4 if kind == "sd1" else [2, 4, 8],
        "use_linear_projection": kind == "sd2",
        **changes,
    }
    unet = UNet2DConditionModel(**config).eval()
    randomise(unet, seed)
    return unet


def tiny_autoencoder(seed: int = 2, **changes: Any) -> AutoencoderKL:
    config = {
        "block_out_channels": (8, 16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "layers_per_block": 2,
        "norm_num_groups": 4,
        "sample_size": SAMPLE_SIZE * FACTOR,
        **changes,
    }
    autoencoder = AutoencoderKL(**config).eval()
    randomise(autoencoder, seed)
    return autoencoder


def tiny_scheduler(kind: Kind, scheduler: type = DDIMScheduler, **changes: Any) -> Any:
    """Stable Diffusion's own configuration for a diffusers scheduler, as far as it has such; sd2 predicts v."""
    config = {**BETAS, "prediction_type": "epsilon" if kind == "sd1" else "v_prediction"}
    if "steps_offset" not in inspect.signature(scheduler).parameters:  # it has a spacing of its own
        del config["steps_offset"]
    if scheduler is DDIMScheduler:
        config |= {"set_alpha_to_one": False, "clip_sample": False}
    return scheduler(**{**config, **changes})


def tiny_pipeline(
    kind: Kind = "sd1", scheduler: type = DDIMScheduler, *, seed: int = 0, **scheduler_changes: Any
) -> StableDiffusionPipeline:
    """A whole pipeline in float32, weights drawn from `seed`; pictures are 32 x 32, latents 8 x 8 x 4."""
    with tempfile.TemporaryDirectory() as directory:
        tokenizer = tiny_tokenizer(Path(directory), kind)
    pipeline = StableDiffusionPipeline(
        vae=tiny_autoencoder(seed + 2),
        text_encoder=tiny_text_encoder(kind, len(tokenizer), seed),
        tokenizer=tokenizer,
        unet=tiny_unet(kind, seed + 1),
        scheduler=tiny_scheduler(kind, scheduler, **scheduler_changes),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_tiny_pipeline(
    directory: Path, kind: Kind = "sd1", scheduler: type = DDIMScheduler, *, seed: int = 0, **changes: Any
) -> StableDiffusionPipeline:
    """Build one, save it with diffusers' own `save_pretrained`, and return it."""
    pipeline = tiny_pipeline(kind, scheduler, seed=seed, **changes)
    pipeline.save_pretrained(directory)
    return pipeline
