"""LDM-1 to LDM-32 (Rombach et al. 2022, section 4.1, figure 6), at the paper's scale and at ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from latentbrush.errors import UserError, short
from latentbrush.nn import CLIPTextModel, Condition, UNet
from latentbrush.studies.zoo import ZOO, ZooSetting
from latentbrush.training import TextToImageRecipe

__all__ = [
    "FACTORS",
    "PAPER",
    "SIZE",
    "PaperModel",
    "compression_recipe",
    "forward_flops",
    "paper_recipe",
    "parse_factors",
    "setting_of",
    "step_flops",
]

FACTORS = (1, 2, 4, 8, 16, 32)
SIZE = 32
TOKENS, WIDTH = 32, 96
CHANNELS: Mapping[int, tuple[int, ...]] = {
    1: (24, 24, 48, 88),
    2: (24, 48, 88),
    **dict.fromkeys((4, 8, 16, 32), (48, 88)),
}
"""Of the UNets, all of 2.1 million weights within 4%: the two deepest levels attend, as the paper's three deepest do.
Where latents have 8 or fewer cells a side the UNet is the same but for its first and last convolution."""


@dataclass(frozen=True)
class PaperModel:
    """A column of the paper's table of hyperparameters: for 256x256 pictures of ImageNet, 2 million steps each.

    `latent`: c and the side; `channels`: of the UNet's levels, of which the last `attending` have cross-attention;
    `parameters`: in millions, as published.
    """

    latent: tuple[int, int]
    channels: tuple[int, ...]
    batch: int
    lr: float
    parameters: int
    attending: int = 3


PAPER: Mapping[int, PaperModel] = {
    1: PaperModel((3, 256), (192, 192, 384, 384, 768, 768), 7, 4.9e-5, 396),
    2: PaperModel((2, 128), (192, 384, 384, 768, 768), 9, 6.3e-5, 391),
    4: PaperModel((3, 64), (192, 384, 576, 960), 40, 8.0e-5, 391),
    8: PaperModel((4, 32), (256, 512, 1024), 64, 6.4e-5, 395),
    16: PaperModel((8, 16), (256, 512, 1024), 112, 4.5e-5, 395),
    32: PaperModel((32, 8), (256, 512, 1024), 112, 4.5e-5, 395),
}


def parse_factors(text: str) -> tuple[int, ...]:
    """Numbers with commas between them, in rising order. UserError for one that is none of `FACTORS`."""
    names = {name.strip() for name in text.split(",")}
    unknown = sorted(names - {str(factor) for factor in FACTORS})
    if unknown:
        raise UserError(f"factor {short(unknown[0])} is none of {', '.join(map(str, FACTORS))}; choose among these")
    return tuple(factor for factor in FACTORS if str(factor) in names)


def setting_of(factor: int) -> ZooSetting | None:
    """The zoo's first stage with KL of most channels; None for f = 1, which has none."""
    rows = [row for row in ZOO if row.factor == factor and row.regulariser == "kl"]
    return max(rows, key=lambda row: row.channels, default=None)


def compression_recipe(
    factor: int, data: Path, first_stage: Path | None, *, steps: int, measures: int, seed: int = 0
) -> TextToImageRecipe:
    """LDM-f for 32x32 pictures of the emoji world: equally many parameters, steps and pictures for every factor.

    `measures`: how often the training is looked at. Text tower and tokeniser are small, and begin from nothing.
    """
    setting = setting_of(factor)
    channels = 3 if setting is None else setting.channels
    every = max(1, steps // measures)
    return TextToImageRecipe.model_validate(
        {
            "stage": "text-to-image",
            "seed": seed,
            "data": {"path": data, "size": SIZE, "family_exponent": 0.25},
            "first_stage": first_stage,
            "tokenizer": {"vocab_size": 1024, "max_length": TOKENS},
            "text": {
                "vocab_size": 1024,
                "width": WIDTH,
                "layers": 2,
                "heads": 4,
                "mlp_width": 4 * WIDTH,
                "max_positions": TOKENS,
                "activation": "gelu",
            },
            "unet": _unet(
                channels, SIZE // factor, CHANNELS[factor], attending=2, heads=4, layers_per_block=1, groups=8
            ),
            "schedule": {"beta_schedule": "scaled_linear", "rescale_zero_snr": True},
            "optimiser": {"lr": 1e-3, "weight_decay": 0.01, "warmup": 100, "decay": "constant"},
            "steps": steps,
            "batch": 32,
            "ema": 0.995,
            "validate_every": every,
            "checkpoint_every": every,
            "defaults": {"steps": 20, "guidance": 1.0},
        }
    )


def paper_recipe(factor: int, data: Path, first_stage: Path | None) -> TextToImageRecipe:
    """LDM-f as the paper trained it on ImageNet, with published widths, batch, rate and schedule.

    Three things are not the paper's: captions through a small text tower stand for its one token a class; the first
    stage has KL instead of vector quantisation; and `data` must say of itself what an emoji world says.
    """
    model = PAPER[factor]
    channels, side = model.latent
    return TextToImageRecipe.model_validate(
        {
            "stage": "text-to-image",
            "data": {"path": data, "size": 256},
            "first_stage": first_stage,
            "text": {"vocab_size": 4096, "width": 512, "layers": 2, "heads": 8, "mlp_width": 2048, "max_positions": 32},
            "unet": _unet(
                channels, side, model.channels, attending=model.attending, heads=1, layers_per_block=2, groups=32
            ),
            "schedule": {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195},
            "prediction": "epsilon",
            "optimiser": {"lr": model.lr, "betas": [0.9, 0.999], "weight_decay": 0.01, "decay": "constant"},
            "steps": 2_000_000,
            "batch": model.batch,
            "ema": 0.9999,
            "precision": "bfloat16",
            "validate_every": 50_000,
            "checkpoint_every": 50_000,
            "defaults": {"steps": 100, "guidance": 1.0},
        }
    )


def _unet(
    latent_channels: int, side: int, channels: tuple[int, ...], *, attending: int, heads: int, **others: Any
) -> dict[str, Any]:
    levels = len(channels)
    return {
        "sample_size": side,
        "in_channels": latent_channels,
        "out_channels": latent_channels,
        "channels": channels,
        "attention": [level >= levels - attending for level in range(levels)],
        "heads": [heads] * levels,
        "depth": [1] * levels,
        "context_width": WIDTH if heads > 1 else 512,
        **others,
    }


def forward_flops(recipe: TextToImageRecipe) -> tuple[float, float]:
    """Of UNet and text tower, for one picture and its caption."""
    config, tokens = recipe.unet, recipe.tokenizer.max_length
    with torch.device("meta"), torch.no_grad():
        unet, text = UNet(config), CLIPTextModel(recipe.text)
        x = torch.zeros(1, config.in_channels, config.sample_size, config.sample_size)
        with FlopCounterMode(display=False) as of_unet:
            unet(x, torch.ones(1), Condition(torch.zeros(1, tokens, config.context_width)))
        with FlopCounterMode(display=False) as of_text:
            text(torch.zeros(1, tokens, dtype=torch.long))
    return float(of_unet.get_total_flops()), float(of_text.get_total_flops())


def step_flops(recipe: TextToImageRecipe) -> float:
    """Of one step of training, backward at twice forward; what loss, optimiser and EMA take is left out."""
    return 3.0 * sum(forward_flops(recipe)) * recipe.batch
