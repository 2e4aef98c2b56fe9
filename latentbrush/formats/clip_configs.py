"""config.json of transformers' CLIPModel, CLIPVisionModel and CLIPTextModelWithProjection <-> our typed configs."""

from __future__ import annotations

from typing import Any, cast

from latentbrush.errors import UserError
from latentbrush.formats.configs import read_text_config, write_text_config
from latentbrush.formats.fields import Fields
from latentbrush.nn import CLIPConfig, CLIPVisionConfig, ProjectedTextConfig
from latentbrush.nn.transformer import Activation

__all__ = [
    "read_clip_config",
    "read_projected_text_config",
    "read_vision_config",
    "tower_fields",
    "write_clip_config",
    "write_projected_text_config",
    "write_vision_config",
]

LEGACY_EOS = 2
# transformers 4 writes into every config what text generation would want to know, and names of classes.
GENERATION = (
    *("bad_words_ids", "begin_suppress_tokens", "chunk_size_feed_forward", "decoder_start_token_id"),
    *("diversity_penalty", "do_sample", "early_stopping", "encoder_no_repeat_ngram_size"),
    *("exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id", "forced_eos_token_id"),
    *("gradient_checkpointing", "id2label", "label2id", "length_penalty", "max_length", "min_length"),
    *("no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences", "output_attentions"),
    *("output_hidden_states", "output_scores", "prefix", "problem_type", "remove_invalid_values"),
    *("repetition_penalty", "return_dict", "return_dict_in_generate", "sep_token_id", "suppress_tokens"),
    *("task_specific_params", "temperature", "tf_legacy_loss", "tokenizer_class", "top_k", "top_p", "torchscript"),
    *("typical_p", "use_bfloat16", "use_cache"),
)
DESCRIPTION = ("architectures", "dtype", "torch_dtype", "transformers_version")


def read_vision_config(fields: Fields) -> CLIPVisionConfig:
    """CLIPVisionModel's config -> ours. UserError names what is unknown, wrong or not supported."""
    fields.only("model_type", "clip_vision_model")
    fields.only("hidden_act", "quick_gelu", "gelu")
    fields.only("tie_word_embeddings", None, True, False)
    fields.harmless(*DESCRIPTION, *GENERATION, "projection_dim")
    fields.harmless("attention_dropout", "initializer_factor", "initializer_range")  # only training asks for them
    fields.harmless("bos_token_id", "eos_token_id", "pad_token_id")
    values: dict[str, Any] = {
        "width": fields.whole("hidden_size", 768),
        "layers": fields.layers("num_hidden_layers", 12),
        "heads": fields.whole("num_attention_heads", 12),
        "mlp_width": fields.whole("intermediate_size", 3072),
        "image_size": fields.same("image_size", 224),
        "patch_size": fields.same("patch_size", 32),
        "channels": fields.whole("num_channels", 3),
        "activation": cast(Activation, fields.name("hidden_act", "quick_gelu")),
        "norm_eps": fields.number("layer_norm_eps", 1e-5),
        "dropout": fields.number("dropout", 0.0),
    }
    fields.done()
    try:
        return CLIPVisionConfig(**values)
    except ValueError as error:
        raise UserError(f"{fields.path}: {error}; correct it in that file") from None


def write_vision_config(config: CLIPVisionConfig, projection: int) -> dict[str, Any]:
    return {
        "model_type": "clip_vision_model",
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_width,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "num_channels": config.channels,
        "hidden_act": config.activation,
        "layer_norm_eps": config.norm_eps,
        "dropout": config.dropout,
        "attention_dropout": 0.0,
        "projection_dim": projection,
    }


def read_clip_config(fields: Fields) -> CLIPConfig:
    """CLIPModel's config -> ours. UserError names what is unknown, wrong or not supported."""
    fields.only("model_type", "clip")
    fields.only("tie_word_embeddings", None, True, False)
    fields.harmless(*DESCRIPTION, *GENERATION)
    fields.harmless("initializer_factor", "logit_scale_init_value")  # what the weights were before training
    text, vision = tower_fields(fields, "text_config"), tower_fields(fields, "vision_config")
    eos = _eos(text)
    text.harmless(*GENERATION)
    values: dict[str, Any] = {
        "text": read_text_config(text),
        "vision": read_vision_config(vision),
        "projection": fields.whole("projection_dim", 512),
        "eos_id": eos,
    }
    fields.done()
    try:
        return CLIPConfig(**values)
    except ValueError as error:
        raise UserError(f"{fields.path}: {error}; correct it in that file") from None


def tower_fields(fields: Fields, key: str) -> Fields:
    """A tower's own fields. Old files may repeat them as `key`_dict, which has the last word and must agree."""
    tower = fields.section(key)
    again = fields.section(f"{key}_dict")
    for name in again.stated():
        if again.raw(name) != tower.raw(name, again.raw(name)):
            raise UserError(
                f"{fields.path}: {name} is {tower.raw(name)!r} in {key} and {again.raw(name)!r} in {key}_dict; "
                "make them agree"
            )
        if name not in tower.stated():
            raise UserError(f"{fields.path}: {name} stands in {key}_dict alone; state it in {key}")
    return tower


def write_clip_config(config: CLIPConfig, *, bos_id: int, pad_id: int) -> dict[str, Any]:
    """`bos_id`, `pad_id`: what the tokeniser begins and fills with; they change nothing of what is computed."""
    text = write_text_config(config.text, bos_id=bos_id, eos_id=_stated_eos(config.eos_id), pad_id=pad_id)
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "dtype": "float32",
        "projection_dim": config.projection,
        "text_config": {key: value for key, value in text.items() if key not in DESCRIPTION}
        | {"projection_dim": config.projection},
        "vision_config": write_vision_config(config.vision, config.projection),
    }


def read_projected_text_config(fields: Fields) -> ProjectedTextConfig:
    """CLIPTextModelWithProjection's config -> ours. UserError names what is unknown, wrong or not supported."""
    eos, projection = _eos(fields), fields.whole("projection_dim", 512)
    text = read_text_config(fields)
    try:
        return ProjectedTextConfig(text, projection, eos)
    except ValueError as error:
        raise UserError(f"{fields.path}: {error}; correct it in that file") from None


def write_projected_text_config(config: ProjectedTextConfig, *, bos_id: int, pad_id: int) -> dict[str, Any]:
    """`bos_id`, `pad_id`: as in `write_clip_config`."""
    text = write_text_config(config.text, bos_id=bos_id, eos_id=_stated_eos(config.eos_id), pad_id=pad_id)
    return text | {"architectures": ["CLIPTextModelWithProjection"], "projection_dim": config.projection}


def _eos(fields: Fields) -> int | None:
    eos = fields.whole("eos_token_id", 49407)
    return None if eos == LEGACY_EOS else eos


def _stated_eos(eos_id: int | None) -> int:
    return LEGACY_EOS if eos_id is None else eos_id
