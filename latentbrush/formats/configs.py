"""config.json of UNet, autoencoder and text tower <-> our typed configs, in both directions.

The files are those of diffusers' UNet2DConditionModel and AutoencoderKL and of transformers' CLIPTextModel;
a field that is not stated has the default of that class. Whatever changes the mathematics in a way that
`latentbrush.nn` does not know is a UserError (see `Fields`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from latentbrush.errors import UserError
from latentbrush.formats.fields import Fields
from latentbrush.nn import AutoencoderConfig, CLIPTextConfig, UNetConfig

__all__ = [
    "DIFFUSERS_VERSION",
    "read_autoencoder_config",
    "read_text_config",
    "read_unet_config",
    "write_autoencoder_config",
    "write_text_config",
    "write_unet_config",
]

# The version whose fields we write; diffusers repairs the configs of some that are older.
DIFFUSERS_VERSION = "0.32.0"
DOWN, DOWN_ATTENTION = "DownBlock2D", "CrossAttnDownBlock2D"
UP, UP_ATTENTION = "UpBlock2D", "CrossAttnUpBlock2D"
MIDDLE = "UNetMidBlock2DCrossAttn"
MOST_BLOCKS = 1000
"""Transformer blocks on the way down; Stable Diffusion XL has 24."""
UNET_WITHOUT = (
    *("reverse_transformer_layers_per_block", "encoder_hid_dim", "encoder_hid_dim_type"),
    *("num_attention_heads", "class_embed_type", "cross_attention_norm"),
    *("time_embedding_act_fn", "timestep_post_act", "time_cond_proj_dim"),
)
ADDED, ADDED_WIDTH, MICRO_WIDTH = "text_time", "projection_class_embeddings_input_dim", "addition_time_embed_dim"
UNET_ONLY: Mapping[str, tuple[Any, ...]] = {
    "center_input_sample": (False,),
    "mid_block_type": (MIDDLE,),
    "downsample_padding": (1,),
    "mid_block_scale_factor": (1,),
    "act_fn": ("silu", "swish"),
    "dual_cross_attention": (False,),
    "resnet_time_scale_shift": ("default",),
    "resnet_skip_time_act": (False,),
    "resnet_out_scale_factor": (1.0,),
    "time_embedding_type": ("positional",),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "attention_type": ("default",),
    "class_embeddings_concat": (False,),
    "mid_block_only_cross_attention": (None, False),
    **dict.fromkeys(UNET_WITHOUT, (None,)),
}


def read_unet_config(fields: Fields) -> UNetConfig:
    """UNet2DConditionModel's config -> ours. UserError names what is unknown, wrong or not supported."""
    channels = fields.wholes("block_out_channels", (320, 640, 1280, 1280))
    levels = len(channels)
    for key, allowed in UNET_ONLY.items():
        fields.only(key, *allowed)
    fields.only("time_embedding_dim", None, 4 * channels[0])
    # Attention in float32 is about precision: the fused kernels used here accumulate so in any type.
    fields.harmless("upcast_attention", "addition_embed_type_num_heads")
    attention = _attention(fields, levels)
    layers, depth = fields.layers("layers_per_block", 2), fields.per_level("transformer_layers_per_block", levels, 1)
    if layers * sum(depth) > MOST_BLOCKS:
        raise UserError(
            f"{fields.path}: layers_per_block {layers} times transformer_layers_per_block {list(depth)} make more than "
            f"the {MOST_BLOCKS} blocks that are read; correct it in that file"
        )
    values: dict[str, Any] = {
        "sample_size": fields.same("sample_size") if fields.has("sample_size") else 64,
        "in_channels": fields.whole("in_channels", 4),
        "out_channels": fields.whole("out_channels", 4),
        "channels": channels,
        "layers_per_block": layers,
        "attention": attention,
        # The field has a wrong name: it is the number of heads.
        "heads": fields.per_level("attention_head_dim", levels, 8),
        "depth": depth,
        "context_width": fields.same("cross_attention_dim", 1280),
        "linear_projection": fields.flag("use_linear_projection", False),
        "groups": fields.whole("norm_num_groups", 32),
        "norm_eps": fields.number("norm_eps", 1e-5),
        "flip_sin_to_cos": fields.flag("flip_sin_to_cos", True),
        "freq_shift": fields.number("freq_shift", 0),
        "dropout": fields.number("dropout", 0.0),
        "classes": fields.whole("num_class_embeds") if fields.has("num_class_embeds") else None,
        "only_cross": _only_cross(fields, levels),
        **_added(fields),
    }
    fields.done()
    try:
        return UNetConfig(**values)
    except ValueError as error:
        raise UserError(f"{fields.path}: {error}; correct it in that file") from None


def _added(fields: Fields) -> dict[str, int]:
    """What Stable Diffusion XL adds to the time: pooled text and numbers."""
    fields.only("addition_embed_type", None, ADDED)
    if fields.raw("addition_embed_type") is None:
        fields.only(ADDED_WIDTH, None)
        fields.only(MICRO_WIDTH, None)
        return {}
    return {"added_width": fields.whole(ADDED_WIDTH), "micro_width": fields.whole(MICRO_WIDTH)}


def _only_cross(fields: Fields, levels: int) -> tuple[bool, ...] | None:
    """One for all levels, or one a level; the field says nothing of the middle. None where all are false."""
    key = "only_cross_attention"
    value = fields.raw(key) or False  # null is as good as false
    entries = value if isinstance(value, list) else [value] * levels
    if len(entries) != levels or not all(isinstance(entry, bool) for entry in entries):
        raise fields.wrong(key, value, f"true or false, once or {levels} times")
    return tuple(entries) if any(entries) else None


def _attention(fields: Fields, levels: int) -> tuple[bool, ...]:
    """Which levels have spatial transformers, from the names of the blocks."""
    down = fields.names("down_block_types", [DOWN_ATTENTION] * 3 + [DOWN])
    up = fields.names("up_block_types", [UP] + [UP_ATTENTION] * 3)
    for blocks, known in ((down, (DOWN, DOWN_ATTENTION)), (up, (UP, UP_ATTENTION))):
        for block in blocks:
            if block not in known:
                raise UserError(f"{fields.path}: block type {block!r} is not supported; only {' and '.join(known)} are")
    attention = tuple(block == DOWN_ATTENTION for block in down)
    if len(down) != levels or tuple(block == UP_ATTENTION for block in reversed(up)) != attention:
        raise UserError(
            f"{fields.path}: {len(down)} down_block_types, {len(up)} up_block_types, {levels} "
            "block_out_channels; the way up must mirror the way down, level by level"
        )
    return attention


def write_unet_config(config: UNetConfig) -> dict[str, Any]:
    down = [DOWN_ATTENTION if has else DOWN for has in config.attention]
    up = [UP_ATTENTION if has else UP for has in reversed(config.attention)]
    shift = int(config.freq_shift) if config.freq_shift.is_integer() else config.freq_shift
    return {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": DIFFUSERS_VERSION,
        "sample_size": config.sample_size,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "center_input_sample": False,
        "flip_sin_to_cos": config.flip_sin_to_cos,
        "freq_shift": shift,
        "down_block_types": down,
        "mid_block_type": MIDDLE,
        "up_block_types": up,
        "only_cross_attention": False if config.only_cross is None else list(config.only_cross),
        "block_out_channels": list(config.channels),
        "layers_per_block": config.layers_per_block,
        "downsample_padding": 1,
        "mid_block_scale_factor": 1,
        "dropout": config.dropout,
        "act_fn": "silu",
        "norm_num_groups": config.groups,
        "norm_eps": config.norm_eps,
        "cross_attention_dim": config.context_width,
        "transformer_layers_per_block": _one_or_all(config.depth),
        "attention_head_dim": _one_or_all(config.heads),
        "dual_cross_attention": False,
        "use_linear_projection": config.linear_projection,
        "upcast_attention": False,
        "resnet_time_scale_shift": "default",
        "num_class_embeds": config.classes,
        **_written_added(config),
    }


def _written_added(config: UNetConfig) -> dict[str, Any]:
    if config.added_width is None:
        return {}
    return {"addition_embed_type": ADDED, ADDED_WIDTH: config.added_width, MICRO_WIDTH: config.micro_width}


def _one_or_all(entries: tuple[int, ...]) -> int | list[int]:
    return entries[0] if len(set(entries)) == 1 else list(entries)


def read_autoencoder_config(fields: Fields) -> AutoencoderConfig:
    """AutoencoderKL's config -> ours. UserError names what is unknown, wrong or not supported."""
    channels = fields.wholes("block_out_channels", (64,))
    for key, block in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
        if fields.names(key, [block]) != (block,) * len(channels):
            found = fields.raw(key)
            raise UserError(f"{fields.path}: {key} {found} is not supported; only {len(channels)} times {block} is")
    in_channels = fields.whole("in_channels", 3)
    fields.only("out_channels", *dict.fromkeys((3, in_channels)))
    if fields.whole("out_channels", 3) != in_channels:
        raise fields.wrong("out_channels", fields.raw("out_channels", 3), f"{in_channels}, as in_channels")
    quant_convs = fields.flag("use_quant_conv", True)
    fields.only("use_post_quant_conv", *((True,) if quant_convs else (False,)))
    fields.only("act_fn", "silu", "swish")
    fields.only("shift_factor", None, 0)
    fields.only("latents_mean", None)
    fields.only("latents_std", None)
    values: dict[str, Any] = {
        "channels": channels,
        "latent_channels": fields.whole("latent_channels", 4),
        "layers_per_block": fields.layers("layers_per_block", 1),
        "mid_attention": fields.flag("mid_block_add_attention", True),
        "groups": fields.whole("norm_num_groups", 32),
        "in_channels": in_channels,
        "quant_convs": quant_convs,
        "scaling_factor": fields.number("scaling_factor", 0.18215),
        "sample_size": fields.same("sample_size", 32),
        "force_upcast": bool(fields.raw("force_upcast", True)),
    }
    fields.done()
    try:
        return AutoencoderConfig(**values)
    except ValueError as error:
        raise UserError(f"{fields.path}: {error}; correct it in that file") from None


def write_autoencoder_config(config: AutoencoderConfig) -> dict[str, Any]:
    levels = len(config.channels)
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": DIFFUSERS_VERSION,
        "in_channels": config.in_channels,
        "out_channels": config.in_channels,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": list(config.channels),
        "layers_per_block": config.layers_per_block,
        "act_fn": "silu",
        "latent_channels": config.latent_channels,
        "norm_num_groups": config.groups,
        "sample_size": config.sample_size,
        "scaling_factor": config.scaling_factor,
        "force_upcast": config.force_upcast,
        "use_quant_conv": config.quant_convs,
        "use_post_quant_conv": config.quant_convs,
        "mid_block_add_attention": config.mid_attention,
    }


def read_text_config(fields: Fields) -> CLIPTextConfig:
    """CLIPTextModel's config -> ours. UserError names what is unknown, wrong or not supported."""
    fields.only("model_type", "clip_text_model")
    fields.only("hidden_act", "quick_gelu", "gelu")
    fields.only("use_attention_mask", None, False)
    fields.only("tie_word_embeddings", None, True, False)
    fields.harmless("architectures", "dtype", "torch_dtype", "transformers_version", "projection_dim")
    fields.harmless("bos_token_id", "eos_token_id", "pad_token_id")  # only the pooled output asks for them
    fields.harmless("attention_dropout", "initializer_factor", "initializer_range")  # only training does
    fields.harmless("gradient_checkpointing", "return_dict", "use_cache", "chunk_size_feed_forward")
    activation = fields.name("hidden_act", "quick_gelu")
    values: dict[str, Any] = {
        "vocab_size": fields.whole("vocab_size", 49408),
        "width": fields.whole("hidden_size", 512),
        "layers": fields.layers("num_hidden_layers", 12),
        "heads": fields.whole("num_attention_heads", 8),
        "mlp_width": fields.whole("intermediate_size", 2048),
        "max_positions": fields.whole("max_position_embeddings", 77),
        "activation": cast(Literal["quick_gelu", "gelu"], activation),
        "norm_eps": fields.number("layer_norm_eps", 1e-5),
        "dropout": fields.number("dropout", 0.0),
    }
    fields.done()
    try:
        return CLIPTextConfig(**values)
    except ValueError as error:
        raise UserError(f"{fields.path}: {error}; correct it in that file") from None


def write_text_config(config: CLIPTextConfig, *, bos_id: int, eos_id: int, pad_id: int) -> dict[str, Any]:
    """`dtype` is float32 whatever the weights are: transformers casts to it, and diffusers' default loading
    then has all parts in one type, where halves beside floats would stop it."""
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "dtype": "float32",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_width,
        "max_position_embeddings": config.max_positions,
        "hidden_act": config.activation,
        "layer_norm_eps": config.norm_eps,
        "dropout": config.dropout,
        "attention_dropout": 0.0,
        "projection_dim": config.width,
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "pad_token_id": pad_id,
    }
