"""A tiny autoencoder's folder, diffusers' AutoencoderTiny: strictly in both directions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from latentbrush.errors import UserError
from latentbrush.formats.configs import DIFFUSERS_VERSION
from latentbrush.formats.fields import Fields
from latentbrush.formats.links import refuse_links_out
from latentbrush.formats.network import ALONE, filled_from, read_network, write_network
from latentbrush.formats.replace import replaced_folder
from latentbrush.formats.weights import find_weights
from latentbrush.model import LatentDiffusion
from latentbrush.nn import TinyAutoencoder, TinyConfig
from latentbrush.origin import Origin

__all__ = [
    "load_tiny_autoencoder",
    "read_tiny_config",
    "save_tiny_autoencoder",
    "with_fast_decoder",
    "write_tiny_config",
]

PART, CLASS = "tiny_autoencoder", "AutoencoderTiny"
MOST_BLOCKS = 1000
"""Residual blocks of one half; TAESD has 10. Networks are built before their weights are looked at."""


def load_tiny_autoencoder(directory: str | Path, *, dtype: torch.dtype = torch.float32) -> TinyAutoencoder:
    """Read a tiny autoencoder (TAESD) from its own folder, in eval mode.

    UserError for whatever is missing, broken, unknown or not of an AutoencoderTiny.
    """
    path = Path(os.path.expanduser(directory))  # Path's own raises for a ~name without a home
    if not str(directory) or not path.is_dir():
        raise UserError(f"tiny autoencoder {str(directory)!r} is no folder; give one with config.json and weights")
    refuse_links_out(path)
    return read_network(PART, path, (read_tiny_config, TinyAutoencoder), filled_from(path, dtype, alone=True))


def save_tiny_autoencoder(
    autoencoder: TinyAutoencoder,
    directory: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
) -> None:
    """Write a folder that `load_tiny_autoencoder` and diffusers' AutoencoderTiny open. As `save_model`."""
    with replaced_folder(Path(directory), overwrite=overwrite, ours=("config.json",)) as new:
        write_network(PART, new, autoencoder, write_tiny_config(autoencoder.config), dtype)


def with_fast_decoder(model: LatentDiffusion, directory: str | Path | None) -> LatentDiffusion:
    """The model itself, which decodes by the tiny autoencoder in a folder from now on, if one is given.

    UserError as `load_tiny_autoencoder`, and where it does not fit the model.
    """
    if directory is None:
        return model
    decoder, path = load_tiny_autoencoder(directory, dtype=model.dtype), Path(os.path.expanduser(directory))
    # The settings, too, are told one by one: those of the model go by a single number of its own.
    files = [*find_weights(path, ALONE[PART][0]), path / "config.json"]
    return model.decode_fast(decoder, Origin(path, files, [], None))


def read_tiny_config(fields: Fields) -> TinyConfig:
    """AutoencoderTiny's config -> ours. UserError names what is unknown, wrong or not supported."""
    fields.only("_class_name", CLASS)
    in_channels = fields.whole("in_channels", 3)
    if fields.whole("out_channels", 3) != in_channels:
        raise fields.wrong("out_channels", fields.raw("out_channels", 3), f"{in_channels}, as in_channels")
    fields.only("act_fn", "relu")
    fields.only("upsample_fn", "nearest")
    fields.only("upsampling_scaling_factor", 2)
    fields.only("shift_factor", 0)
    fields.harmless("block_out_channels")  # the decoder's once more
    values: dict[str, Any] = {
        **_levels(fields, "encoder", (1, 3, 3, 3)),
        **_levels(fields, "decoder", (3, 3, 3, 1)),
        "latent_channels": fields.whole("latent_channels", 4),
        "in_channels": in_channels,
        "scaling_factor": fields.number("scaling_factor", 1.0),
        "magnitude": fields.number("latent_magnitude", 3),
        "shift": fields.number("latent_shift", 0.5),
        "force_upcast": bool(fields.raw("force_upcast", False)),
    }
    fields.done()
    try:
        return TinyConfig(**values)
    except ValueError as error:
        raise UserError(f"{fields.path}: {error}; correct it in that file") from None


def _levels(fields: Fields, half: str, default: tuple[int, ...]) -> dict[str, Any]:
    """Blocks and width of the encoder or decoder; a width that changes from level to level fits no convolution."""
    blocks, key = fields.wholes(f"num_{half}_blocks", default), f"{half}_block_out_channels"
    widths = fields.wholes(key, (64,) * 4)
    if len(widths) != len(blocks) or len(set(widths)) > 1:
        raise fields.wrong(key, list(widths), f"one number {len(blocks)} times, once for each of num_{half}_blocks")
    if sum(blocks) > MOST_BLOCKS:
        raise fields.wrong(f"num_{half}_blocks", list(blocks), f"at most {MOST_BLOCKS} in all")
    return {f"{half}_width": widths[0], f"{half}_blocks": blocks}


def write_tiny_config(config: TinyConfig) -> dict[str, Any]:
    levels = len(config.decoder_blocks)
    return {
        "_class_name": CLASS,
        "_diffusers_version": DIFFUSERS_VERSION,
        "in_channels": config.in_channels,
        "out_channels": config.in_channels,
        "encoder_block_out_channels": [config.encoder_width] * levels,
        "decoder_block_out_channels": [config.decoder_width] * levels,
        "block_out_channels": [config.decoder_width] * levels,
        "act_fn": "relu",
        "upsample_fn": "nearest",
        "latent_channels": config.latent_channels,
        "upsampling_scaling_factor": 2,
        "num_encoder_blocks": list(config.encoder_blocks),
        "num_decoder_blocks": list(config.decoder_blocks),
        "latent_magnitude": config.magnitude,
        "latent_shift": config.shift,
        "force_upcast": config.force_upcast,
        "scaling_factor": config.scaling_factor,
        "shift_factor": 0.0,
    }
