"""config.json of diffusers' LDMBertModel <-> our typed config, in both directions."""

from __future__ import annotations

from typing import Any

from latentbrush.errors import UserError
from latentbrush.formats.clip_configs import DESCRIPTION, GENERATION
from latentbrush.formats.fields import Fields
from latentbrush.nn import LDMBertConfig

__all__ = ["read_bert_config", "write_bert_config"]

MODEL_TYPE = "ldmbert"
# Each is stated twice: by BART's name, and by the one that transformers has for all.
ALIASES = {"num_hidden_layers": "encoder_layers", "num_attention_heads": "encoder_attention_heads"}
ALIASES |= {"hidden_size": "d_model"}
TRAINING = ("activation_dropout", "attention_dropout", "classifier_dropout", "encoder_layerdrop", "init_std")


def read_bert_config(fields: Fields) -> LDMBertConfig:
    """LDMBertModel's config -> ours. UserError names what is unknown, wrong or not supported."""
    fields.only("model_type", MODEL_TYPE)
    fields.only("activation_function", "gelu")
    fields.harmless("scale_embedding")  # no version of diffusers has ever read it
    fields.harmless("tie_word_embeddings", "is_encoder_decoder", "pad_token_id", *TRAINING, *DESCRIPTION, *GENERATION)
    fields.harmless("bos_token_id", "eos_token_id", "is_decoder", "add_cross_attention", "cross_attention_hidden_size")
    fields.harmless("pruned_heads", "tie_encoder_decoder", "problem_type")
    values: dict[str, Any] = {
        "vocab_size": fields.whole("vocab_size", 30522),
        "width": fields.whole("d_model", 1280),
        "layers": fields.layers("encoder_layers", 32),
        "heads": fields.whole("encoder_attention_heads", 8),
        "head_width": fields.whole("head_dim", 64),
        "mlp_width": fields.whole("encoder_ffn_dim", 5120),
        "max_positions": fields.whole("max_position_embeddings", 77),
        "dropout": fields.number("dropout", 0.1),
    }
    for alias, key in ALIASES.items():
        if fields.has(alias) and fields.raw(alias) != fields.raw(key, fields.raw(alias)):
            raise fields.wrong(alias, fields.raw(alias), f"{fields.raw(key)}, as {key}")
        fields.harmless(alias)
    fields.done()
    try:
        return LDMBertConfig(**values)
    except ValueError as error:
        raise UserError(f"{fields.path}: {error}; correct it in that file") from None


def write_bert_config(config: LDMBertConfig, *, pad_id: int) -> dict[str, Any]:
    """`dtype` is float32 whatever the weights are, as in `write_text_config`."""
    return {
        "architectures": ["LDMBertModel"],
        "model_type": MODEL_TYPE,
        "dtype": "float32",
        "vocab_size": config.vocab_size,
        "d_model": config.width,
        "encoder_layers": config.layers,
        "num_hidden_layers": config.layers,
        "encoder_attention_heads": config.heads,
        "head_dim": config.head_width,
        "encoder_ffn_dim": config.mlp_width,
        "max_position_embeddings": config.max_positions,
        "activation_function": config.activation,
        "dropout": config.dropout,
        "activation_dropout": 0.0,
        "attention_dropout": 0.0,
        "encoder_layerdrop": 0.0,
        "classifier_dropout": 0.0,
        "init_std": 0.02,
        "scale_embedding": False,
        "pad_token_id": pad_id,
    }
