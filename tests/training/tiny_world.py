"""A made-up emoji world of thirteen small pictures, and recipes that train on it in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from latentbrush.data.emoji import EmojiRecord, Split
from latentbrush.training import AutoencoderRecipe, TextToImageRecipe

SPLITS: dict[Split, int] = {"train": 8, "validation": 3, "test": 2}
COLOURS = ("red", "green", "blue", "black")
SIZE = 8


def make_world(directory: Path) -> Path:
    """Thirteen 16-pixel pictures with alpha, each a random coloured block, with every field of a record."""
    rng = np.random.default_rng(0)
    directory.mkdir(parents=True)
    records = []
    for split, count in SPLITS.items():
        for i in range(count):
            key = f"{split}-{i}"
            pixels = np.zeros((16, 16, 4), dtype=np.uint8)
            top, left = rng.integers(0, 8, 2)
            pixels[top : top + 8, left : left + 8] = [*rng.integers(0, 256, 3), 255]
            Image.fromarray(pixels).save(directory / f"{key}.png")
            records.append(_record(key, split, COLOURS[i % len(COLOURS)]))
    lines = [json.dumps(record.to_json(), ensure_ascii=False) + "\n" for record in records]
    (directory / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    return directory


def _record(key: str, split: Split, colour: str) -> EmojiRecord:
    return EmojiRecord(
        file_name=f"{key}.png",
        text=f"{colour} block {key}",
        emoji="■",
        codepoints=key,
        name=f"{colour} block {key}",
        keywords=(colour, "block", split),
        name_ko=f"{key} 블록",
        keywords_ko=("블록", "색"),
        group="Symbols",
        subgroup="geometric",
        base="block",
        attributes=(colour, f"{colour} skin tone"),
        family=colour,
        split=split,
        hard=False,
    )


AUTOENCODER: dict[str, Any] = {
    "channels": [8, 8],
    "latent_channels": 2,
    "layers_per_block": 1,
    "mid_attention": False,
    "groups": 4,
    "scaling_factor": 1.0,
    "sample_size": SIZE,
}


def autoencoder_values(world: Path, **changes: Any) -> dict[str, Any]:
    """What a YAML recipe of the first stage would hold: f = 2, latents 2 x 4 x 4."""
    values: dict[str, Any] = {
        "stage": "autoencoder",
        "seed": 3,
        "data": {"path": str(world), "size": SIZE},
        "autoencoder": AUTOENCODER,
        "optimiser": {"lr": 5e-3, "warmup": 2},
        "steps": 14,
        "batch": 6,
        "ema": 0.9,
        "validate_every": 4,
        "checkpoint_every": 4,
    }
    return values | changes


def text_to_image_values(world: Path, first: Path, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        **autoencoder_values(world),
        "stage": "text-to-image",
        "first_stage": str(first),
        "tokenizer": {"vocab_size": 530, "max_length": 8},
        # Dropout in both networks: resuming must find the same masks again.
        "text": {
            "vocab_size": 530,
            "width": 8,
            "layers": 1,
            "heads": 2,
            "mlp_width": 8,
            "max_positions": 8,
            "dropout": 0.2,
        },
        "text_lr_scale": 0.5,
        "unet": {
            "sample_size": 4,
            "in_channels": 2,
            "out_channels": 2,
            "channels": [8],
            "layers_per_block": 1,
            "attention": [True],
            "heads": [2],
            "depth": [1],
            "context_width": 8,
            "groups": 4,
            "dropout": 0.2,
        },
        "caption_dropout": 0.2,
        "defaults": {"steps": 2, "guidance": 2.0},
    }
    del values["autoencoder"]
    return values | changes


def autoencoder_recipe(world: Path, **changes: Any) -> AutoencoderRecipe:
    return AutoencoderRecipe.model_validate(autoencoder_values(world, **changes))


def text_to_image_recipe(world: Path, first: Path, **changes: Any) -> TextToImageRecipe:
    return TextToImageRecipe.model_validate(text_to_image_values(world, first, **changes))
