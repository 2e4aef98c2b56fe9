"""Where the parameters of a model lie in a single file of the CompVis and Stability layout: templates of a network.

A `Place` says under which name a module of ours stands there; one short table of inner names serves all places of
a kind. From a network's own parameters follow all keys of its file (`layout`), and by turning that round what a
file's keys are here, so that reading and writing cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from latentbrush.formats.keys import CLIP_TEXT, rename
from latentbrush.nn import AutoencoderConfig, CLIPTextConfig, LDMBertConfig, UNet2DConfig, UNetConfig, VQConfig

__all__ = [
    "EMA",
    "Place",
    "Stored",
    "autoencoder_places",
    "bert_places",
    "clip_places",
    "ema_key",
    "layout",
    "open_clip_places",
    "unet2d_places",
    "unet_places",
    "vq_places",
]

UNET_PREFIX = "model.diffusion_model."
EMA = "model_ema."
Rule = tuple[str, str]

RESNET: tuple[Rule, ...] = (
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
)
TRANSFORMER: tuple[Rule, ...] = (("to_out", "to_out.0"), ("ff.proj_in", "ff.net.0.proj"), ("ff.proj_out", "ff.net.2"))
FIRST_STAGE_RESNET: tuple[Rule, ...] = (("conv_shortcut", "nin_shortcut"),)
ATTENTION: tuple[Rule, ...] = (
    ("group_norm", "norm"),
    ("attention.to_q", "q"),
    ("attention.to_k", "k"),
    ("attention.to_v", "v"),
    ("attention.to_out", "proj_out"),
)
OPEN_CLIP: tuple[Rule, ...] = (
    *(("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")),
    ("self_attn.out_proj", "attn.out_proj"),
    *((f"self_attn.{part}_proj.{kind}", f"attn.in_proj_{kind}") for kind in ("weight", "bias") for part in "qkv"),
)

X_ATTENTION: tuple[Rule, ...] = tuple((f"{part}_proj", f"to_{part}") for part in ("q", "k", "v", "out"))
X_MLP: tuple[Rule, ...] = (("fc1", "net.0.0"), ("fc2", "net.2"))

# Attention over cells without words: queries, keys and values are one convolution over the row of cells.
CELLS: tuple[Rule, ...] = (
    ("group_norm", "norm"),
    *((f"to_{part}.{kind}", f"qkv.{kind}") for kind in ("weight", "bias") for part in "qkv"),
    ("to_out", "proj_out"),
)

Form = Literal["same", "convolution", "transposed", "row"]


@dataclass(frozen=True)
class Place:
    """The module or parameter `ours` lies under `theirs`, what is inside it by the names of `inner`.

    `form`: how its matrices lie there: `convolution`, of 1 x 1, `transposed`, or `row`, a convolution of one axis.
    `heads`: queries, keys and values lie there head by head, of so many.
    """

    ours: str
    theirs: str
    inner: tuple[Rule, ...] = ()
    form: Form = "same"
    heads: int = 1


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: our `names` stacked on their first axis (one name, or q, k and v), in a form."""

    key: str
    names: tuple[str, ...]
    form: Form = "same"
    heads: int = 1

    def shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The shapes that it may have in a file, the one that we write first."""
        first, *_ = parts = [shapes[name] for name in self.names]
        if len(parts) > 1:
            first = (sum(part[0] for part in parts), *first[1:])
        if len(first) != 2 or self.form == "same":
            return [first]
        if self.form == "row":
            return [(*first, 1)]
        # Some tools write the autoencoder's attention as plain matrices here, too.
        return [first[::-1]] if self.form == "transposed" else [(*first, 1, 1), first]

    def pack(self, parts: list[Tensor]) -> Tensor:
        """Our tensors -> the file's."""
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        if len(parts) > 1 and self.heads > 1:
            # (heads, 3, d, ...) instead of (3, heads, d, ...)
            whole = whole.reshape(len(parts), self.heads, -1, *whole.shape[1:]).transpose(0, 1).flatten(0, 2)
        if whole.ndim != 2 or self.form == "same":
            return whole
        if self.form == "row":
            return whole[:, :, None]
        return whole.T if self.form == "transposed" else whole[:, :, None, None]

    def unpack(self, whole: Tensor) -> list[Tensor]:
        """The file's tensor -> ours, in the order of `names`."""
        if self.form == "convolution" and whole.ndim == 4:
            whole = whole[:, :, 0, 0]
        elif self.form == "transposed" and whole.ndim == 2:
            whole = whole.T
        elif self.form == "row" and whole.ndim == 3:
            whole = whole[:, :, 0]
        if len(self.names) == 1:
            return [whole]
        if self.heads > 1:
            whole = whole.reshape(self.heads, len(self.names), -1, *whole.shape[1:]).transpose(0, 1).flatten(0, 2)
        return [part.clone() for part in whole.chunk(len(self.names))]  # files hold no two that share memory


def layout(names: Iterable[str], places: Iterable[Place], prefix: str) -> dict[str, Stored]:
    """Key in the file -> what lies there, for all parameters of a network. KeyError for one without a place."""
    by_name = {place.ours: place for place in places}
    gathered: dict[str, tuple[list[str], Place]] = {}
    for name in names:
        place = next(by_name[start] for start in _starts(name) if start in by_name)
        rest = name[len(place.ours) :].removeprefix(".")
        inside = rename(rest, place.inner) if rest else ""
        key = prefix + ".".join(part for part in (place.theirs, inside) if part)
        gathered.setdefault(key, ([], place))[0].append(name)
    return {key: Stored(key, _stacked(found), at.form, at.heads) for key, (found, at) in gathered.items()}


def _starts(name: str) -> Iterator[str]:
    """`a.b.c`, `a.b`, `a`."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _stacked(names: list[str]) -> tuple[str, ...]:
    """Queries before keys before values, whatever the order of a network's own parameters."""
    return tuple(sorted(names, key=lambda name: "qkv".find(name.rpartition(".")[0].removesuffix("_proj")[-1:])))


def ema_key(key: str) -> str:
    """Where the moving average of the UNet's `key` lies: the trainer wrote the name without its dots."""
    return EMA + key.removeprefix("model.").replace(".", "")


def unet_places(config: UNetConfig) -> Iterator[Place]:
    """Blocks are numbered through there, and what stands in one is, too: resnet, transformer, sampling."""
    yield Place("conv_in", "input_blocks.0.0")
    yield Place("time_embedding.linear_1", "time_embed.0")
    yield Place("time_embedding.linear_2", "time_embed.2")
    yield Place("class_embedding", "label_emb")
    yield Place("add_embedding.linear_1", "label_emb.0.0")
    yield Place("add_embedding.linear_2", "label_emb.0.2")
    levels, number = len(config.channels), 0
    for level in range(levels):
        for layer in range(config.layers_per_block):
            number += 1
            yield Place(f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{number}.0", RESNET)
            yield Place(f"down_blocks.{level}.attentions.{layer}", f"input_blocks.{number}.1", TRANSFORMER)
        if level < levels - 1:
            number += 1
            yield Place(f"down_blocks.{level}.downsample.conv", f"input_blocks.{number}.0.op")
    yield Place("mid_block.resnets.0", "middle_block.0", RESNET)
    yield Place("mid_block.attention", "middle_block.1", TRANSFORMER)
    yield Place("mid_block.resnets.1", "middle_block.2", RESNET)
    number = 0
    for block, level in enumerate(reversed(range(levels))):
        for layer in range(config.layers_per_block + 1):
            yield Place(f"up_blocks.{block}.resnets.{layer}", f"output_blocks.{number}.0", RESNET)
            yield Place(f"up_blocks.{block}.attentions.{layer}", f"output_blocks.{number}.1", TRANSFORMER)
            number += 1
        behind = 1 + config.attention[level]
        yield Place(f"up_blocks.{block}.upsample", f"output_blocks.{number - 1}.{behind}")
    yield Place("conv_norm_out", "out.0")
    yield Place("conv_out", "out.2")


def autoencoder_places(config: AutoencoderConfig) -> Iterator[Place]:
    """The decoder's levels are numbered from the finest there; attention consists of 1 x 1 convolutions."""
    levels = len(config.channels)
    for half, way in (("encoder", "down"), ("decoder", "up")):
        yield Place(f"{half}.conv_in", f"{half}.conv_in")
        for level in range(levels):
            theirs = level if way == "down" else levels - 1 - level
            blocks = f"{half}.{way}_blocks.{level}"
            for layer in range(config.layers_per_block + (way == "up")):
                place = f"{half}.{way}.{theirs}.block.{layer}"
                yield Place(f"{blocks}.resnets.{layer}", place, FIRST_STAGE_RESNET)
            yield Place(f"{blocks}.{way}sample", f"{half}.{way}.{theirs}.{way}sample")
        for i in (0, 1):
            yield Place(f"{half}.mid_block.resnets.{i}", f"{half}.mid.block_{i + 1}", FIRST_STAGE_RESNET)
        yield Place(f"{half}.mid_block.attention", f"{half}.mid.attn_1", ATTENTION, "convolution")
        yield Place(f"{half}.conv_norm_out", f"{half}.norm_out")
        yield Place(f"{half}.conv_out", f"{half}.conv_out")
    for name in ("quant_conv", "post_quant_conv"):
        yield Place(name, name)


def vq_places(config: VQConfig) -> Iterator[Place]:
    """The VQ autoencoder's halves lie as the KL autoencoder's."""
    yield from autoencoder_places(config.body())
    yield Place("codebook", "quantize.embedding")


def unet2d_places(config: UNet2DConfig) -> Iterator[Place]:
    """The UNet without words, numbered through as that with them; what halves and doubles may be a residual block."""
    yield Place("conv_in", "input_blocks.0.0")
    yield Place("time_embedding.linear_1", "time_embed.0")
    yield Place("time_embedding.linear_2", "time_embed.2")
    yield Place("class_embedding", "label_emb")
    levels, number = len(config.channels), 0
    heads = [config.heads or width // (config.head_width or width) for width in config.channels]
    residual = config.residual or (False,) * levels

    def attention(ours: str, theirs: str, level: int) -> Place:
        return Place(ours, theirs, CELLS, "row", heads[level])

    for level in range(levels):
        for layer in range(config.layers_per_block):
            number += 1
            yield Place(f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{number}.0", RESNET)
            yield attention(f"down_blocks.{level}.attentions.{layer}", f"input_blocks.{number}.1", level)
        if level < levels - 1:
            number += 1
            halving = f"down_blocks.{level}.downsample"
            if residual[level]:
                yield Place(halving, f"input_blocks.{number}.0", RESNET)
            else:
                yield Place(f"{halving}.conv", f"input_blocks.{number}.0.op")
    yield Place("mid_block.resnets.0", "middle_block.0", RESNET)
    yield attention("mid_block.attention", "middle_block.1", levels - 1)
    yield Place("mid_block.resnets.1", "middle_block.2", RESNET)
    number = 0
    for block, level in enumerate(reversed(range(levels))):
        for layer in range(config.layers_per_block + 1):
            yield Place(f"up_blocks.{block}.resnets.{layer}", f"output_blocks.{number}.0", RESNET)
            yield attention(f"up_blocks.{block}.attentions.{layer}", f"output_blocks.{number}.1", level)
            number += 1
        place = f"output_blocks.{number - 1}.{1 + config.attention[level]}"
        yield Place(f"up_blocks.{block}.upsample", place, RESNET if level and residual[level] else ())
    yield Place("conv_norm_out", "out.0")
    yield Place("conv_out", "out.2")


def clip_places(config: CLIPTextConfig) -> Iterator[Place]:
    """transformers' own names, as in folders."""
    for name in ("embeddings", "layers", "final_layer_norm"):
        yield Place(name, CLIP_TEXT.theirs(name))


def open_clip_places(config: CLIPTextConfig, inside: str = "") -> Iterator[Place]:
    """OpenCLIP's text tower: queries, keys and values are one matrix there. `inside`: what our names begin with."""
    yield Place(f"{inside}embeddings.token_embedding", "token_embedding")
    yield Place(f"{inside}embeddings.position_embedding.weight", "positional_embedding")
    for layer in range(config.layers):
        yield Place(f"{inside}layers.{layer}", f"transformer.resblocks.{layer}", OPEN_CLIP)
    yield Place(f"{inside}final_layer_norm", "ln_final")
    yield Place("text_projection.weight", "text_projection", form="transposed")


def bert_places(config: LDMBertConfig) -> Iterator[Place]:
    """LDM's own text tower, of x-transformers: attentions and MLPs are numbered through there."""
    yield Place("embeddings.token_embedding", "token_emb")
    yield Place("embeddings.position_embedding", "pos_emb.emb")
    for layer in range(config.layers):
        attention, mlp = (f"attn_layers.layers.{2 * layer + i}" for i in (0, 1))
        yield Place(f"layers.{layer}.layer_norm1", f"{attention}.0")
        yield Place(f"layers.{layer}.self_attn", f"{attention}.1", X_ATTENTION)
        yield Place(f"layers.{layer}.layer_norm2", f"{mlp}.0")
        yield Place(f"layers.{layer}.mlp", f"{mlp}.1", X_MLP)
    yield Place("norm", "norm")
    yield Place("to_logits", "to_logits")
