"""LDM's own text tower: a transformer over BERT's word pieces, trained together with the UNet (LDM, section 4.3.1).

Of BERT it has the vocabulary alone. The layers are those of x-transformers: norms come first, every token sees every
other, padding too, and the heads together are narrower than the tokens (LDM, appendix E.2.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from latentbrush.nn.clip import TextEmbeddings
from latentbrush.nn.transformer import Activation, EncoderLayer, LayerConfig

__all__ = ["LDMBertConfig", "LDMBertModel"]


@dataclass(frozen=True, kw_only=True)
class LDMBertConfig(LayerConfig):
    """The shape of the tower; the defaults are those of the published text-to-image model.

    `head_width`: of each of the `heads`, whatever the tokens' `width`.
    """

    tower: ClassVar[str] = "LDM's BERT"
    vocab_size: int = 30522
    width: int = 1280
    layers: int = 32
    heads: int = 8
    head_width: int = 64
    mlp_width: int = 5120
    max_positions: int = 77
    activation: Activation = "gelu"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("vocab_size", "head_width", "max_positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{self.tower} {name} {getattr(self, name)} must be at least 1")


class LDMBertModel(nn.Module):
    """tau(y): tokens (B, n) of integers -> embeddings (B, n, width), after the final layer norm. ValueError for more
    tokens than it has positions.

    `to_logits` takes no part: it belongs to x-transformers' wrapper, every published file has it, and so it is kept.
    """

    def __init__(self, config: LDMBertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = TextEmbeddings(config.vocab_size, config.max_positions, config.width)
        inner = config.heads * config.head_width
        self.layers = nn.ModuleList(
            EncoderLayer(config, causal=False, inner=inner, bias=False) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.to_logits = nn.Linear(config.width, config.vocab_size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.ndim != 2 or tokens.shape[1] > self.config.max_positions:
            limit = self.config.max_positions
            raise ValueError(f"the text tower takes tokens (B, n), n up to {limit}, not {tuple(tokens.shape)}")
        x: Tensor = self.dropout(self.embeddings(tokens))
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.norm(x)
        return out
