"""CLIP's text tower (Radford et al. 2021, section 2.4): a causal transformer over byte-pair tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from latentbrush.nn.transformer import EncoderLayer, LayerConfig

__all__ = ["CLIPTextConfig", "CLIPTextModel"]


@dataclass(frozen=True, kw_only=True)
class CLIPTextConfig(LayerConfig):
    """The shape of a text tower; the defaults are ViT-L/14's, which Stable Diffusion 1 plugs in."""

    tower: ClassVar[str] = "text"
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
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding = nn.Embedding(config.max_positions, config.width)
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
        self.embeddings = TextEmbeddings(config)
        self.layers = nn.ModuleList(EncoderLayer(config, causal=True) for _ in range(config.layers))
        self.final_layer_norm = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.ndim != 2 or tokens.shape[1] > self.config.max_positions:
            limit = self.config.max_positions
            raise ValueError(f"the text tower takes tokens (B, n), n up to {limit}, not {tuple(tokens.shape)}")
        x = self.embeddings(tokens)
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.final_layer_norm(x)
        return out
