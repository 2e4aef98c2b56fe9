"""The number of a class as one token, which cross-attention reads (LDM, section 3.3; its code's ClassEmbedder)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from latentbrush.nn.condition import check_labels

__all__ = ["ClassToken", "ClassTokenConfig"]


@dataclass(frozen=True)
class ClassTokenConfig:
    """`classes`: how many can be asked for; `empty`: is there one more, behind them, for no class at all, which
    guidance leads away from? `width`: of the token. The defaults are those of the published model of ImageNet."""

    classes: int = 1000
    width: int = 512
    empty: bool = True

    def __post_init__(self) -> None:
        for name in ("classes", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"class token {name} {getattr(self, name)} must be at least 1")

    @property
    def rows(self) -> int:
        """Of the table."""
        return self.classes + self.empty


class ClassToken(nn.Module):
    """Labels (B,) -> tokens (B, 1, width). ValueError for a label that there is not."""

    def __init__(self, config: ClassTokenConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.rows, config.width)

    def forward(self, labels: Tensor) -> Tensor:
        check_labels(labels, self.config.rows)
        out: Tensor = self.embedding(labels[:, None])
        return out
