"""CLIP's image tower: a vision transformer over square patches (Dosovitskiy et al. 2021; Radford et al. 2021, 2.4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from latentbrush.nn.transformer import EncoderLayer, LayerConfig

__all__ = ["CLIPVisionConfig", "CLIPVisionModel"]


@dataclass(frozen=True, kw_only=True)
class CLIPVisionConfig(LayerConfig):
    """The shape of an image tower; the defaults are ViT-L/14's.

    `image_size` and `patch_size` are the sides of squares in pixels, the one a multiple of the other.
    """

    tower: ClassVar[str] = "CLIP vision"
    width: int = 1024
    layers: int = 24
    heads: int = 16
    mlp_width: int = 4096
    image_size: int = 224
    patch_size: int = 14
    channels: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("image_size", "patch_size", "channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"CLIP vision {name} {getattr(self, name)} must be at least 1")
        if self.image_size % self.patch_size:
            raise ValueError(
                f"CLIP vision image_size {self.image_size} is not a multiple of its patch_size {self.patch_size}"
            )

    @property
    def positions(self) -> int:
        """The patches, and the class token before them."""
        return (self.image_size // self.patch_size) ** 2 + 1


class ImageEmbeddings(nn.Module):
    """Pictures (B, c, s, s) -> the class token and a token a patch, row by row: (B, 1 + n, width)."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(config.width) * config.width**-0.5)
        # No bias: the position embedding is one already.
        self.patch_embedding = nn.Conv2d(
            config.channels, config.width, config.patch_size, stride=config.patch_size, bias=False
        )
        self.position_embedding = nn.Embedding(config.positions, config.width)
        nn.init.normal_(self.position_embedding.weight, std=config.width**-0.5)

    def forward(self, pictures: Tensor) -> Tensor:
        patches = self.patch_embedding(pictures).flatten(2).transpose(1, 2)  # (B, n, width)
        tokens = torch.cat([self.class_embedding.expand(len(pictures), 1, -1), patches], dim=1)
        return tokens + self.position_embedding.weight


class CLIPVisionModel(nn.Module):
    """Pictures (B, c, s, s), scaled as the weights expect -> (B, width), the class token's summary.

    ValueError for pictures of another shape: the positions are learned for one size.
    """

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = ImageEmbeddings(config)
        self.pre_layernorm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.layers = nn.ModuleList(EncoderLayer(config, causal=False) for _ in range(config.layers))
        self.post_layernorm = nn.LayerNorm(config.width, eps=config.norm_eps)

    def tokens(self, pictures: Tensor) -> Tensor:
        """What the last layer says of the picture and of each patch, before the norm: (B, 1 + n, width)."""
        for x in self.every_tokens(pictures):
            last = x
        return last

    def every_tokens(self, pictures: Tensor) -> Iterator[Tensor]:
        """What goes into the first layer, and what each says of the picture and its patches; all (B, 1 + n, width)."""
        wanted = (self.config.channels, self.config.image_size, self.config.image_size)
        if pictures.ndim != 4 or tuple(pictures.shape[1:]) != wanted:
            raise ValueError(f"the image tower takes pictures (B, {str(wanted)[1:]}, not {tuple(pictures.shape)}")
        x: Tensor = self.pre_layernorm(self.embeddings(pictures))
        yield x
        for layer in self.layers:
            x = layer(x)
            yield x

    def forward(self, pictures: Tensor) -> Tensor:
        out: Tensor = self.post_layernorm(self.tokens(pictures)[:, 0])
        return out
