"""How far a picture is from its original, to a network: LPIPS, or the shipped CLIP's features in its place."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from latentbrush.data.pixels import to_signed
from latentbrush.errors import UserError
from latentbrush.evaluation.clip_extractor import DEFAULT_CLIP
from latentbrush.evaluation.extractor import ExtractorIdentity, digest_of
from latentbrush.formats import load_clip, resolve_clip
from latentbrush.formats.lpips import load_lpips
from latentbrush.formats.weights import find_weights
from latentbrush.nn.lpips import LEAST, unit_distance

__all__ = ["CLIPDistance", "LPIPSDistance", "PerceptualDistance", "perceptual_distance", "picture_distances"]


class PerceptualDistance(Protocol):
    """Pictures and originals, floats (B, 3, H, W) in [-1, 1] -> (B,), 0 for the same; gradients flow to both.

    They are brought to the network's device, where the distances are. The network's own weights are frozen, so that a
    first stage may train against it. UserError for unlike shapes and pictures that are too small.
    """

    @property
    def identity(self) -> ExtractorIdentity: ...

    def __call__(self, pictures: Tensor, originals: Tensor) -> Tensor: ...


class LPIPSDistance:
    """LPIPS with its published weights (Zhang et al. 2018, equation 1); files as `load_lpips` has them.

    Pictures are seen in their own size: the identity's `side` is 0. Figures of VGG16 and of AlexNet do not compare.
    """

    def __init__(
        self, backbone: str | Path, linear: str | Path | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.network = load_lpips(backbone, linear).to(self.device)
        self.identity = ExtractorIdentity(
            name=f"LPIPS {self.network.backbone}",
            digest=digest_of([Path(path) for path in (backbone, linear) if path is not None]),
            side=0,
            resize="none",
            precision="float32",
        )

    def __call__(self, pictures: Tensor, originals: Tensor) -> Tensor:
        least = LEAST[self.network.backbone]
        _check(pictures, originals)
        if min(pictures.shape[-2:]) < least:
            raise UserError(
                f"{self.identity.name} needs pictures of at least {least} pixels a side; these have "
                f"{tuple(pictures.shape[-2:])}"
            )
        distances: Tensor = self.network(pictures.to(self.device), originals.to(self.device))
        return distances


class CLIPDistance:
    """Equation 1 of LPIPS without learned weights, over the tokens of a CLIP's image tower: no LPIPS, and named so.

    Tokens of the picture and of each patch are compared before the first layer, where they hold every pixel, and
    behind each layer. Pictures of another size than the tower's are brought to it: what a larger one has beyond that
    is not seen. `name`: of a shipped CLIP, or a folder of CLIPModel's. UserError for what `load_clip` refuses.
    """

    def __init__(self, name: str = DEFAULT_CLIP, device: torch.device | str = "cpu") -> None:
        parts, path, self.device = load_clip(name), resolve_clip(name), torch.device(device)
        self.tower = parts.network.vision_model.to(self.device).requires_grad_(False)
        # From (p / 255 - mean) / std to the same of signed pictures.
        self.mean = [2 * mean - 1 for mean in parts.pixels.mean]
        self.std = [2 * std for std in parts.pixels.std]
        self.identity = ExtractorIdentity(
            name=f"distance of clip {path.name}'s tokens",
            digest=digest_of(find_weights(path, "model")),
            side=self.tower.config.image_size,
            resize="bicubic, antialiased, unrounded",
            precision="float32",
        )

    def __call__(self, pictures: Tensor, originals: Tensor) -> Tensor:
        _check(pictures, originals)
        pictures, originals = pictures.to(self.device), originals.to(self.device)
        total = pictures.new_zeros(len(pictures))
        for first, second in zip(self._tokens(pictures), self._tokens(originals), strict=True):
            total = total + unit_distance(first.transpose(1, 2), second.transpose(1, 2))
        return total

    def _tokens(self, pictures: Tensor) -> Iterable[Tensor]:
        side = self.identity.side
        if pictures.shape[-2:] != (side, side):
            pictures = F.interpolate(pictures, (side, side), mode="bicubic", antialias=True, align_corners=False)
        mean, std = (pictures.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        return self.tower.every_tokens((pictures - mean) / std)


def perceptual_distance(
    backbone: str | Path | None = None,
    linear: str | Path | None = None,
    device: torch.device | str = "cpu",
) -> PerceptualDistance:
    """LPIPS where the user has its weights, else the shipped CLIP's distance; `identity.name` says which.

    UserError for linear weights without a backbone.
    """
    if backbone is None and linear is not None:
        raise UserError(f"{linear} weighs the features of a classifier that is not given; give its weights, too")
    return CLIPDistance(device=device) if backbone is None else LPIPSDistance(backbone, linear, device)


@torch.inference_mode()
def picture_distances(distance: PerceptualDistance, pictures: Tensor, originals: Tensor) -> Tensor:
    """(B,) float64 of uint8 pictures (B, 3, H, W) and their originals. UserError as `distance`."""
    if pictures.dtype != torch.uint8 or originals.dtype != torch.uint8:
        raise ValueError(f"pictures are {pictures.dtype} and {originals.dtype}; compare bytes, as they are saved")
    return distance(to_signed(pictures), to_signed(originals)).double().cpu()


def _check(pictures: Tensor, originals: Tensor) -> None:
    if pictures.shape != originals.shape:
        raise UserError(
            f"pictures {tuple(pictures.shape)} and originals {tuple(originals.shape)} differ in number or size; give "
            "an original of the same size for each"
        )
    if pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ValueError(f"pictures {tuple(pictures.shape)} must be (B, 3, H, W)")
