"""What parameters are called here and in files: short tables of rules, each used in both directions.

A rule (ours, theirs) renames a run of whole, dot-separated segments wherever it occurs; rules apply in
order, so that a longer one goes before a shorter one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    *("AUTOENCODER", "CLIP", "CLIP_TEXT", "CLIP_TEXT_PROJECTED", "CLIP_VISION", "INCEPTION", "LDM_BERT", "SAFETY"),
    *("UNET", "VQ"),
    *("Names", "rename"),
]

Rule = tuple[str, str]


def rename(name: str, rules: Iterable[Rule]) -> str:
    """Every run of whole segments that a rule names, replaced, rule by rule."""
    dotted = f".{name}."
    for old, new in rules:
        dotted = dotted.replace(f".{old}.", f".{new}.")
    return dotted[1:-1]


@dataclass(frozen=True)
class Names:
    """How one network's parameters are called in files.

    `prefix`: written before every name, read with or without it. `older`: names of earlier versions of the
    format and the present ones. `ignored`: names, without the prefix, that hold no parameter; `ignored_end`: how
    such end.
    """

    rules: tuple[Rule, ...]
    prefix: str = ""
    older: tuple[Rule, ...] = ()
    ignored: frozenset[str] = frozenset()
    ignored_end: str | None = None

    def theirs(self, name: str) -> str:
        """The name in a file that we write."""
        return self.prefix + rename(name, self.rules)

    def ours(self, key: str) -> str | None:
        """The name here for a name in a file, None for one to be ignored."""
        key = key.removeprefix(self.prefix)
        if key in self.ignored or key.rpartition(".")[2] == self.ignored_end:
            return None
        return rename(rename(key, self.older), [(theirs, ours) for ours, theirs in self.rules])


_CONVOLUTIONS: tuple[Rule, ...] = (("downsample", "downsamplers.0"), ("upsample", "upsamplers.0"))

# What attention that stands alone was called before it was one for all.
_OLDER: tuple[Rule, ...] = (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0"))

UNET = Names(
    (
        *_CONVOLUTIONS,
        ("mid_block.attention", "mid_block.attentions.0"),
        ("to_out", "to_out.0"),
        ("ff.proj_in", "ff.net.0.proj"),
        ("ff.proj_out", "ff.net.2"),
    ),
    older=_OLDER,
)
"""Of UNets with words and without."""

AUTOENCODER = Names(
    (
        *_CONVOLUTIONS,
        ("mid_block.attention.group_norm", "mid_block.attentions.0.group_norm"),
        ("mid_block.attention.attention", "mid_block.attentions.0"),
        ("to_out", "to_out.0"),
    ),
    older=_OLDER,
)

# LDM's KL autoencoders lie under the same name as its others, and have no codebook.
VQ = Names((("codebook", "quantize.embedding"), *AUTOENCODER.rules), older=AUTOENCODER.older)

# transformers 5 leaves the prefix out; all versions read it. Old files hold the buffer 0 .. 76 as well.
CLIP_TEXT = Names(
    (("layers", "encoder.layers"),),
    prefix="text_model.",
    ignored=frozenset({"embeddings.position_ids"}),
)

CLIP_TEXT_PROJECTED = Names((("layers", "encoder.layers"),), ignored=frozenset({"text_model.embeddings.position_ids"}))

LDM_BERT = Names(
    (
        ("embeddings.token_embedding", "model.embed_tokens"),
        ("embeddings.position_embedding", "model.embed_positions"),
        ("layer_norm1", "self_attn_layer_norm"),
        ("layer_norm2", "final_layer_norm"),
        ("mlp.fc1", "fc1"),
        ("mlp.fc2", "fc2"),
        ("layers", "model.layers"),
        ("norm", "model.layer_norm"),
    )
)

# The misspelling is transformers' own, from its first version on.
_VISION: tuple[Rule, ...] = (("layers", "encoder.layers"), ("pre_layernorm", "pre_layrnorm"))

# For image towers that stand alone, as an IP-adapter's does; until those come, only parity tests read one.
CLIP_VISION = Names(_VISION, prefix="vision_model.", ignored=frozenset({"embeddings.position_ids"}))

# transformers wrote the tower's name twice, the checker's own and the tower's; from version 5 on once.
SAFETY = Names(
    (*_VISION, ("vision_model", "vision_model.vision_model")),
    ignored=frozenset({"vision_model.vision_model.embeddings.position_ids", "vision_model.embeddings.position_ids"}),
)

CLIP = Names(
    _VISION,
    ignored=frozenset({"text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"}),
)

_INCEPTION_CHAINS = ("branch3x3", "branch3x3dbl", "branch5x5", "branch7x7", "branch7x7dbl", "branch7x7x3")

# torchvision's names, by which the weights of FID's network are published.
INCEPTION = Names(
    (
        *((f"conv_{name[:2]}", f"Conv2d_{name}") for name in ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")),
        *((f"mixed_{name}", f"Mixed_{name}") for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e")),
        *((f"mixed_{name}", f"Mixed_{name}") for name in ("7a", "7b", "7c")),
        *((f"{name}.{i}.{x}", f"{name}_{i + 1}{x}") for name in _INCEPTION_CHAINS[:2] for i in (1, 2) for x in "ab"),
        *((f"{name}.{i}", f"{name}_{i + 1}") for name in _INCEPTION_CHAINS for i in range(5)),
        ("norm", "bn"),
        ("classes", "fc"),
    ),
    ignored_end="num_batches_tracked",  # torch counts what its norms were trained on
)
