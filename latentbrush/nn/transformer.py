"""The pre-norm transformer layer that CLIP's towers and LDM's text tower are made of (Radford et al. 2021, 2.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentbrush.nn.linear import Linear

__all__ = ["Activation", "EncoderLayer", "LayerConfig"]

Activation = Literal["quick_gelu", "gelu"]


@dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """What a tower's layers are like; each tower's config adds its own embeddings.

    `activation` is part of the weights' meaning: OpenAI's towers use `quick_gelu`, x * sigmoid(1.702 x),
    OpenCLIP's `gelu`. `dropout` lies in [0, 1). ValueError for numbers that no tower can have.
    """

    tower: ClassVar[str]
    """What errors call it."""
    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: Activation = "quick_gelu"
    norm_eps: float = 1e-5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "mlp_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{self.tower} {name} {getattr(self, name)} must be at least 1")
        if self.width % self.heads:
            raise ValueError(f"{self.tower} width {self.width} is not divisible by its {self.heads} heads")
        if self.activation not in get_args(Activation):
            raise ValueError(f"{self.tower} activation {self.activation!r} is unknown: quick_gelu or gelu")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"{self.tower} dropout {self.dropout} must lie in [0, 1)")


class SelfAttention(nn.Module):
    """Tokens attend to one another, if `causal` only to what comes before: (B, n, width) -> (B, n, width).

    `inner`: the width of all heads together, None for that of the tokens; `bias`: of queries, keys and values.
    """

    def __init__(self, width: int, heads: int, *, causal: bool, inner: int | None = None, bias: bool = True) -> None:
        super().__init__()
        inner = width if inner is None else inner
        self.heads, self.causal = heads, causal
        self.q_proj = Linear(width, inner, bias=bias)
        self.k_proj = Linear(width, inner, bias=bias)
        self.v_proj = Linear(width, inner, bias=bias)
        self.out_proj = Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, n, d)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        merged = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal).transpose(1, 2).flatten(-2)
        out: Tensor = self.out_proj(merged)
        return out


class MLP(nn.Module):
    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        self.quick = config.activation == "quick_gelu"
        self.fc1 = Linear(config.width, config.mlp_width)
        self.fc2 = Linear(config.mlp_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        out: Tensor = self.fc2(x * torch.sigmoid(1.702 * x) if self.quick else F.gelu(x))
        return out


class EncoderLayer(nn.Module):
    """Attention, then an MLP, each behind its layer norm and beside a skip: (B, n, width) -> (B, n, width).

    `inner`, `bias`: as in the attention.
    """

    def __init__(self, config: LayerConfig, *, causal: bool, inner: int | None = None, bias: bool = True) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.self_attn = SelfAttention(config.width, config.heads, causal=causal, inner=inner, bias=bias)
        self.layer_norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.self_attn(self.layer_norm1(x)))
        out: Tensor = x + self.dropout(self.mlp(self.layer_norm2(x)))
        return out
