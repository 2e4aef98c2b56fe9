"""A VQ autoencoder's folder, diffusers' VQModel: read and written by itself, strictly in both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from latentbrush.errors import UserError
from latentbrush.formats.configs import DIFFUSERS_VERSION
from latentbrush.formats.fields import Fields
from latentbrush.formats.index import INDEX
from latentbrush.formats.links import refuse_links_out
from latentbrush.formats.network import filled_from, read_network, write_network
from latentbrush.formats.replace import replaced_folder
from latentbrush.formats.shipped import resolve_model
from latentbrush.nn import VQAutoencoder, VQConfig

__all__ = ["load_vq", "read_vq_config", "save_vq", "write_vq_config"]

PART, CLASS = "vqvae", "VQModel"
DOWN, UP = "DownEncoderBlock2D", "UpDecoderBlock2D"


def load_vq(directory: str | Path, *, dtype: torch.dtype = torch.float32) -> VQAutoencoder:
    """Read a VQ autoencoder in eval mode: its own folder, or the vqvae or vae folder of a whole model.

    UserError for whatever is missing, broken, unknown or not of a VQModel.
    """
    path = resolve_model(directory)
    if (path / INDEX).is_file():
        path = path / (PART if (path / PART).is_dir() else "vae")
    refuse_links_out(path)
    return read_network(PART, path, (read_vq_config, VQAutoencoder), filled_from(path, dtype, alone=True))


def save_vq(
    autoencoder: VQAutoencoder,
    directory: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
) -> None:
    """Write a folder that `load_vq` and diffusers' VQModel open. As `save_model`."""
    with replaced_folder(Path(directory), overwrite=overwrite, ours=("config.json",)) as new:
        write_network(PART, new, autoencoder, write_vq_config(autoencoder.config), dtype)


def read_vq_config(fields: Fields) -> VQConfig:
    """VQModel's config -> ours. UserError names what is unknown, wrong or not supported."""
    fields.only("_class_name", CLASS)
    channels = fields.wholes("block_out_channels", (64,))
    for key, block in (("down_block_types", DOWN), ("up_block_types", UP)):
        if fields.names(key, [block]) != (block,) * len(channels):
            found = fields.raw(key)
            raise UserError(f"{fields.path}: {key} {found} is not supported; only {len(channels)} times {block} is")
    in_channels = fields.whole("in_channels", 3)
    if fields.whole("out_channels", 3) != in_channels:
        raise fields.wrong("out_channels", fields.raw("out_channels", 3), f"{in_channels}, as in_channels")
    fields.only("act_fn", "silu", "swish")
    fields.only("norm_type", "group")  # spatial: MoVQ, whose decoder reads the entries again at every norm
    fields.only("lookup_from_codebook", False)
    fields.harmless("force_upcast")  # precision: weights are computed with in the type they are loaded as
    inner = fields.whole("latent_channels", 3)
    width = fields.whole("vq_embed_dim") if fields.has("vq_embed_dim") else inner
    fields.harmless("vq_embed_dim")
    values: dict[str, Any] = {
        "channels": channels,
        "latent_channels": width,
        "inner_channels": inner,
        "codebook_size": fields.whole("num_vq_embeddings", 256),
        "layers_per_block": fields.layers("layers_per_block", 1),
        "mid_attention": fields.flag("mid_block_add_attention", True),
        "groups": fields.whole("norm_num_groups", 32),
        "in_channels": in_channels,
        "scaling_factor": fields.number("scaling_factor", 0.18215),
        "sample_size": fields.same("sample_size", 32),
    }
    fields.done()
    try:
        return VQConfig(**values)
    except ValueError as error:
        raise UserError(f"{fields.path}: {error}; correct it in that file") from None


def write_vq_config(config: VQConfig) -> dict[str, Any]:
    levels = len(config.channels)
    return {
        "_class_name": CLASS,
        "_diffusers_version": DIFFUSERS_VERSION,
        "in_channels": config.in_channels,
        "out_channels": config.in_channels,
        "down_block_types": [DOWN] * levels,
        "up_block_types": [UP] * levels,
        "block_out_channels": list(config.channels),
        "layers_per_block": config.layers_per_block,
        "act_fn": "silu",
        "latent_channels": config.body().latent_channels,
        "sample_size": config.sample_size,
        "num_vq_embeddings": config.codebook_size,
        "norm_num_groups": config.groups,
        "vq_embed_dim": config.latent_channels,
        "scaling_factor": config.scaling_factor,
        "norm_type": "group",
        "mid_block_add_attention": config.mid_attention,
        "lookup_from_codebook": False,
    }
