"""Attention and the spatial transformer (Vaswani et al. 2017; LDM, section 3.3 and appendix E.2.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from latentbrush.nn.linear import Linear

__all__ = ["Attention", "FeedForward", "SpatialTransformer", "TransformerBlock"]


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V over `heads` heads, Q from x, K and V from the context (or from x).

    (B, n, width) and context (B, m, context_width) -> (B, n, width).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        context_width: int | None = None,
        *,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"attention width {width} is not divisible by its {heads} heads")
        context_width = width if context_width is None else context_width
        self.heads = heads
        self.to_q = Linear(width, width, bias=bias)
        self.to_k = Linear(context_width, width, bias=bias)
        self.to_v = Linear(context_width, width, bias=bias)
        self.to_out = Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, n, d)
            for part in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        merged = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)  # (B, n, width)
        out: Tensor = self.dropout(self.to_out(merged))
        return out


class FeedForward(nn.Module):
    """GEGLU, four times as wide inside (Shazeer 2020): (B, n, width) -> (B, n, width)."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.proj_in = Linear(width, 8 * width)
        self.dropout = nn.Dropout(dropout)
        self.proj_out = Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj_in(x).chunk(2, dim=-1)
        out: Tensor = self.proj_out(self.dropout(value * F.gelu(gate)))
        return out


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to the condition, feed-forward; each on the normalised residual.

    `only_cross`: the first attention reads the condition, too, and no cell reads another (Stable Diffusion's x4
    upscaler, whose maps are large).
    """

    def __init__(
        self, width: int, heads: int, context_width: int, dropout: float = 0.0, *, only_cross: bool = False
    ) -> None:
        super().__init__()
        self.only_cross = only_cross
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, heads, context_width if only_cross else None, dropout=dropout)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = Attention(width, heads, context_width, dropout=dropout)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width, dropout)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x), context if self.only_cross else None)
        x = x + self.attn2(self.norm2(x), context)
        out: Tensor = x + self.ff(self.norm3(x))
        return out


class SpatialTransformer(nn.Module):
    """Where the text is merged into the latents: a (B, c, h, w) map read as h*w tokens, with a residual.

    `linear` chooses linear projections around the blocks (SD 2) over 1x1 convolutions (SD 1).
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        context_width: int,
        *,
        depth: int = 1,
        linear: bool = False,
        groups: int = 32,
        dropout: float = 0.0,
        only_cross: bool = False,
    ) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(channels, heads, context_width, dropout, only_cross=only_cross) for _ in range(depth)
        )
        self.proj_out = Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        tokens = self.norm(x)
        if self.linear:
            tokens = self.proj_in(tokens.flatten(2).transpose(1, 2))  # (B, h*w, c)
        else:
            tokens = self.proj_in(tokens).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        if self.linear:
            tokens = self.proj_out(tokens).transpose(1, 2).unflatten(2, (height, width))
        else:
            tokens = self.proj_out(tokens.transpose(1, 2).unflatten(2, (height, width)))
        out: Tensor = x + tokens
        return out
