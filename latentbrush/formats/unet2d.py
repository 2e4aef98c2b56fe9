"""config.json of diffusers' UNet2DModel, the UNet without words <-> ours, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentbrush.errors import UserError
from latentbrush.formats.configs import DIFFUSERS_VERSION
from latentbrush.formats.fields import Fields
from latentbrush.nn import UNet2DConfig

__all__ = ["CLASS", "read_unet2d_config", "write_unet2d_config"]

CLASS, OWN = "UNet2DModel", "UNet2D"
"""diffusers', and what has as many heads on every level, which that cannot be."""
HEADS = "num_attention_heads"
PLAIN, ATTENDED, RESIDUAL = range(3)
DOWN = ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D")
UP = ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D")
"""Block types by what their level has beside residual blocks: nothing, attention, halving and doubling within them."""
MIDDLE = "UNetMidBlock2D"
SCALE_SHIFT = "scale_shift"
CONVOLUTION, WITHIN = "conv", "resnet"
ONLY: Mapping[str, tuple[Any, ...]] = {
    "time_embedding_type": ("positional",),
    "mid_block_type": (MIDDLE,),
    "mid_block_scale_factor": (1,),
    "act_fn": ("silu", "swish"),
    "class_embed_type": (None,),
}


def read_unet2d_config(fields: Fields) -> UNet2DConfig:
    """UNet2DModel's config -> ours. UserError names what is unknown, wrong or not supported."""
    own = fields.raw("_class_name") == OWN
    fields.only("_class_name", OWN if own else CLASS)
    for key, allowed in ONLY.items():
        fields.only(key, *allowed)
    channels = fields.wholes("block_out_channels", (224, 448, 672, 896))
    fields.only("time_embedding_dim", None, 4 * channels[0])
    fields.only("downsample_padding", 1, 0)
    fields.only("resnet_time_scale_shift", "default", SCALE_SHIFT)
    fields.harmless("num_train_timesteps")  # of an embedding of learned times
    head = fields.raw("attention_head_dim", 8)  # null is a value: one head
    heads = fields.whole(HEADS) if own else None
    values: dict[str, Any] = {
        "sample_size": fields.same("sample_size"),
        "in_channels": fields.whole("in_channels", 3),
        "out_channels": fields.whole("out_channels", 3),
        "channels": channels,
        "layers_per_block": fields.layers("layers_per_block", 2),
        **_levels(fields, len(channels)),
        "heads": heads,
        "head_width": None if head is None or heads is not None else fields.whole("attention_head_dim", 8),
        "mid_attention": fields.flag("add_attention", True),
        "mid_groups": fields.whole("attn_norm_num_groups") if fields.has("attn_norm_num_groups") else None,
        "scale_shift": fields.raw("resnet_time_scale_shift") == SCALE_SHIFT,
        "symmetric": fields.whole("downsample_padding", 1) == 1,
        "groups": fields.whole("norm_num_groups", 32),
        "norm_eps": fields.number("norm_eps", 1e-5),
        "flip_sin_to_cos": fields.flag("flip_sin_to_cos", True),
        "freq_shift": fields.number("freq_shift", 0),
        "dropout": fields.number("dropout", 0.0),
        "centred": fields.flag("center_input_sample", False),
        "classes": fields.whole("num_class_embeds") if fields.has("num_class_embeds") else None,
    }
    fields.harmless("attn_norm_num_groups", "num_class_embeds")
    if values["scale_shift"] and values["mid_attention"] and values["mid_groups"] is None:
        raise fields.wrong("attn_norm_num_groups", None, f"a number beside resnet_time_scale_shift {SCALE_SHIFT}")
    fields.done()
    try:
        return UNet2DConfig(**values)
    except ValueError as error:
        raise UserError(f"{fields.path}: {error}; correct it in that file") from None


def _levels(fields: Fields, levels: int) -> dict[str, tuple[bool, ...] | None]:
    """Which levels attend, and which are halved and doubled within residual blocks.

    The fields of how that is done mean levels with attention alone; the others' blocks have it in their names.
    """
    down = _kinds(fields, "down_block_types", DOWN, (PLAIN, ATTENDED, ATTENDED, ATTENDED))
    up = _kinds(fields, "up_block_types", UP, (ATTENDED, ATTENDED, ATTENDED, PLAIN))
    if len(down) != levels or up[::-1] != down:
        raise UserError(
            f"{fields.path}: {len(down)} down_block_types, {len(up)} up_block_types, {levels} "
            "block_out_channels; the way up must mirror the way down, level by level"
        )
    fields.only("downsample_type", CONVOLUTION, WITHIN)
    way = fields.raw("downsample_type", CONVOLUTION)
    if fields.raw("upsample_type", CONVOLUTION) != way:
        raise fields.wrong("upsample_type", fields.raw("upsample_type", CONVOLUTION), f"{way}, as downsample_type")
    residual = tuple(kind == RESIDUAL or (kind == ATTENDED and way == WITHIN) for kind in down)
    return {"attention": tuple(kind == ATTENDED for kind in down), "residual": residual if any(residual) else None}


def _kinds(fields: Fields, key: str, names: tuple[str, ...], default: tuple[int, ...]) -> tuple[int, ...]:
    kinds = []
    for block in fields.names(key, [names[kind] for kind in default]):
        if block not in names:
            raise UserError(f"{fields.path}: block type {block!r} is not supported; only {', '.join(names)} are")
        kinds.append(names.index(block))
    return tuple(kinds)


def write_unet2d_config(config: UNet2DConfig) -> dict[str, Any]:
    """UserError for what diffusers' class cannot be."""
    residual = config.residual or (False,) * len(config.channels)
    ways = {within for within, attended in zip(residual, config.attention, strict=True) if attended}
    if len(ways) > 1:
        raise UserError(
            "of the UNet's levels with attention some are halved within residual blocks and some are not, which "
            f"{CLASS} cannot be; choose one for all"
        )
    kinds = [
        ATTENDED if attended else RESIDUAL if within else PLAIN
        for attended, within in zip(config.attention, residual, strict=True)
    ]
    way = WITHIN if True in ways else CONVOLUTION
    shift = int(config.freq_shift) if config.freq_shift.is_integer() else config.freq_shift
    return {
        "_class_name": CLASS if config.heads is None else OWN,
        "_diffusers_version": DIFFUSERS_VERSION,
        "sample_size": config.sample_size,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "center_input_sample": config.centred,
        "time_embedding_type": "positional",
        "freq_shift": shift,
        "flip_sin_to_cos": config.flip_sin_to_cos,
        "down_block_types": [DOWN[kind] for kind in kinds],
        "mid_block_type": MIDDLE,
        "up_block_types": [UP[kind] for kind in reversed(kinds)],
        "block_out_channels": list(config.channels),
        "layers_per_block": config.layers_per_block,
        "mid_block_scale_factor": 1,
        "downsample_padding": int(config.symmetric),
        "downsample_type": way,
        "upsample_type": way,
        "dropout": config.dropout,
        "act_fn": "silu",
        "attention_head_dim": config.head_width,
        **({} if config.heads is None else {HEADS: config.heads}),
        "norm_num_groups": config.groups,
        "attn_norm_num_groups": _stated_groups(config),
        "norm_eps": config.norm_eps,
        "resnet_time_scale_shift": SCALE_SHIFT if config.scale_shift else "default",
        "add_attention": config.mid_attention,
        "num_class_embeds": config.classes,
    }


def _stated_groups(config: UNet2DConfig) -> int | None:
    """Where the time scales and shifts, not stating them means no norm."""
    return config.groups if config.scale_shift and config.mid_groups is None else config.mid_groups
