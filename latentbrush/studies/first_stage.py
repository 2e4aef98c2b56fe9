"""A first stage alone, as what gives back pictures: what it is measured by, without a model around it."""

from __future__ import annotations

import torch
from torch import Tensor

from latentbrush.data.pixels import to_bytes, to_signed
from latentbrush.devices import not_finite
from latentbrush.errors import UserError
from latentbrush.evaluation import CodebookUsage, codebook_usage
from latentbrush.evaluation.sets import PictureSet
from latentbrush.nn import FirstStage, VQAutoencoder, posterior_of
from latentbrush.studies.rebuilt import Rebuilder

__all__ = ["HeldPictures", "StagePictures", "usage_of"]

BATCH = 64


class HeldPictures:
    """A set of pictures that lie in memory: uint8 (N, 3, H, W)."""

    def __init__(self, name: str, pictures: Tensor) -> None:
        self.name, self.pictures = name, pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, first: int, end: int) -> Tensor:
        return self.pictures[first:end]


class StagePictures(Rebuilder):
    """By `stage`, in its own precision and whole: small pictures, fresh from training."""

    def __init__(self, stage: FirstStage, originals: PictureSet) -> None:
        super().__init__(originals)
        self.stage = stage

    @torch.inference_mode()
    def of(self, pictures: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) through the first stage and back, on whatever device it is. ValueError as its `encode`;
        UserError where what comes back is not finite."""
        device = next((weight.device for weight in self.stage.parameters()), pictures.device)
        latents = posterior_of(self.stage, to_signed(pictures).to(device)).mode()
        rebuilt = self.stage.decode(latents)
        if bad := len(not_finite(rebuilt)):
            raise UserError(f"{bad} of {len(pictures)} pictures come back not finite; train the first stage anew")
        return to_bytes(rebuilt).cpu()


@torch.inference_mode()
def usage_of(stage: VQAutoencoder, pictures: Tensor) -> CodebookUsage:
    """How pictures, uint8 (N, 3, H, W), use the codebook."""
    device = stage.codebook.weight.device
    parts = [stage.encode(to_signed(part).to(device)) for part in torch.split(pictures, BATCH)]
    indices = torch.cat([stage.quantise(z).indices for z in parts])
    return codebook_usage(indices, stage.config.codebook_size)
