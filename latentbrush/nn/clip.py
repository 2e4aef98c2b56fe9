"""CLIP's text tower (Radford et al. 2021, section 2.4): a causal transformer over byte-pair tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CLIPTextConfig", "CLIPTextModel"]


@dataclass(frozen=True)
class CLIPTextConfig:
    """The shape of a text tower; the defaults are ViT-L/14's, which Stable Diffusion 1 plugs in.

    `activation` is part of the weights' meaning: OpenAI's towers use `quick_gelu`, x * sigmoid(1.702 x),
    OpenCLIP's `gelu`.
    """

    vocab_size: int = 49408
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    max_positions: int = 77
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    norm_eps: float = 1e-5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vocab_size", "width", "layers", "heads", "mlp_width", "max_positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"CLIP text {name} {getattr(self, name)} must be at least 1")
        if self.width % self.heads:
            raise ValueError(f"CLIP text width {self.width} is not divisible by its {self.heads} heads")
        if self.activation not in ("quick_gelu", "gelu"):
            raise ValueError(f"CLIP activation {self.activation!r} is unknown: quick_gelu or gelu")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"CLIP dropout {self.dropout} must lie in [0, 1)")


class CausalAttention(nn.Module):
    """Every token attends to itself and what comes before: (B, n, width) -> (B, n, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, n, d)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        merged = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2)
        out: Tensor = self.out_proj(merged)
        return out


class MLP(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.quick = config.activation == "quick_gelu"
        self.fc1 = nn.Linear(config.width, config.mlp_width)
        self.fc2 = nn.Linear(config.mlp_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        out: Tensor = self.fc2(x * torch.sigmoid(1.702 * x) if self.quick else F.gelu(x))
        return out


class EncoderLayer(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.self_attn = CausalAttention(config.width, config.heads)
        self.layer_norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.self_attn(self.layer_norm1(x)))
        out: Tensor = x + self.dropout(self.mlp(self.layer_norm2(x)))
        return out


class Embeddings(nn.Module):
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
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
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
