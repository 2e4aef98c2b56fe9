"""CLIP's image tower as a feature extractor: the shipped one by default, any CLIP folder by name."""

from __future__ import annotations

import torch
from torch import Tensor

from latentbrush.devices import whole_float32
from latentbrush.evaluation.extractor import ExtractorIdentity, Features, digest_of
from latentbrush.evaluation.resize import resized
from latentbrush.formats import load_clip, resolve_clip
from latentbrush.formats.weights import find_weights

__all__ = ["DEFAULT_CLIP", "CLIPExtractor"]

DEFAULT_CLIP = "emoji-clip"


class CLIPExtractor:
    """Embeddings of length 1 in the space that captions share: what CMMD and the CLIP score are defined on.

    `name`: of a shipped CLIP, or a folder of CLIPModel's. UserError for what `load_clip` refuses.
    """

    def __init__(self, name: str = DEFAULT_CLIP, device: torch.device | str = "cpu") -> None:
        self.parts, self.device = load_clip(name), torch.device(device)
        self.parts.network.to(self.device)
        path = resolve_clip(name)
        self.identity = ExtractorIdentity(
            name=f"clip {path.name}",
            digest=digest_of(find_weights(path, "model")),
            side=self.parts.network.config.vision.image_size,
            resize="bicubic, antialiased",
            precision="float32",
        )

    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> Features:
        seen = self.parts.pixels(resized(pictures.to(self.device), self.identity.side))
        with whole_float32():
            return Features(self.parts.network.encode_image(seen).cpu())
