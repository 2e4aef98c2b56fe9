"""CLIP's text tower (Radford et al. 2021, section 2.4): a causal transformer over byte-pair tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from latentbrush.nn.linear import Linear
from latentbrush.nn.transformer import EncoderLayer, LayerConfig

__all__ = [
    "CLIPTextConfig",
    "CLIPTextModel",
    "ProjectedTextConfig",
    "ProjectedTextModel",
    "TextEmbeddings",
    "check_end",
    "end_state",
]


@dataclass(frozen=True, kw_only=True)
class CLIPTextConfig(LayerConfig):
    """The shape of a text tower; the defaults are ViT-L/14's, which Stable Diffusion 1 plugs in."""

    tower: ClassVar[str] = "CLIP text"
    vocab_size: int = 49408
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    max_positions: int = 77

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("vocab_size", "max_positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"CLIP text {name} {getattr(self, name)} must be at least 1")


class TextEmbeddings(nn.Module):
    """Tokens (B, n) -> what they and their places mean (B, n, width)."""

    def __init__(self, vocab_size: int, max_positions: int, width: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.position_embedding = nn.Embedding(max_positions, width)
        # As OpenAI's CLIP starts: small, so that pre-norm residuals and not embeddings dominate.
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.01)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]
        return out


class CLIPTextModel(nn.Module):
    """tau(y): tokens (B, n) of integers -> embeddings (B, n, width), after the final layer norm."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = TextEmbeddings(config.vocab_size, config.max_positions, config.width)
        self.layers = nn.ModuleList(EncoderLayer(config, causal=True) for _ in range(config.layers))
        self.final_layer_norm = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.states(tokens)[1]

    def states(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What goes into the last layer, as it is, and what `forward` returns; both (B, n, width).

        The former is what Stable Diffusion XL reads: the last layer serves contrastive training alone.
        """
        if tokens.ndim != 2 or tokens.shape[1] > self.config.max_positions:
            limit = self.config.max_positions
            raise ValueError(f"the text tower takes tokens (B, n), n up to {limit}, not {tuple(tokens.shape)}")
        x: Tensor = self.embeddings(tokens)
        *layers, last = self.layers
        for layer in layers:
            x = layer(x)
        return x, self.final_layer_norm(last(x))


@dataclass(frozen=True)
class ProjectedTextConfig:
    """A text tower and the width of the space that it shares with pictures.

    `eos_id`: the token whose first place sums up the text. None for files from before transformers 4.31,
    whose eos_token_id is a wrong 2: there the highest id marks the end, as in OpenAI's own vocabulary.
    """

    text: CLIPTextConfig
    projection: int
    eos_id: int | None = None

    def __post_init__(self) -> None:
        if self.projection < 1:
            raise ValueError(f"CLIP projection {self.projection} must be at least 1")
        check_end(self.eos_id, self.text.vocab_size)


class ProjectedTextModel(nn.Module):
    """A text tower with its projection; Stable Diffusion XL's second is OpenCLIP's bigG/14."""

    def __init__(self, config: ProjectedTextConfig) -> None:
        super().__init__()
        self.config = config
        self.text_model = CLIPTextModel(config.text)
        self.text_projection = Linear(config.text.width, config.projection, bias=False)
        nn.init.normal_(self.text_projection.weight, std=config.text.width**-0.5)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n) -> what goes into the last layer (B, n, width), and the whole text's vector (B, projection)."""
        penultimate, last = self.text_model.states(tokens)
        return penultimate, self.text_projection(end_state(last, tokens, self.config.eos_id))


def end_state(hidden: Tensor, tokens: Tensor, eos_id: int | None) -> Tensor:
    """The state (B, width) of each text's end: of the first of several, in a row without one of its first place."""
    end = (tokens if eos_id is None else (tokens == eos_id).int()).argmax(1)
    return hidden[torch.arange(len(tokens), device=tokens.device), end]


def check_end(eos_id: int | None, vocab_size: int) -> None:
    """ValueError for an end token that no file could state."""
    if eos_id is not None and not 0 <= eos_id < vocab_size:
        raise ValueError(f"CLIP eos_id {eos_id} is none of the vocabulary's {vocab_size} tokens")
    if eos_id == 2:
        raise ValueError("CLIP eos_id 2 means the highest id in files, so no token 2 can be the end; use None")
