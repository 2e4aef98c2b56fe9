"""What all first stages share: the pictures they learn to reconstruct, and how far off they are (LDM, section 3.1)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from latentbrush.data.emoji import EmojiRecord, family_weights
from latentbrush.data.folder import ImageFolder
from latentbrush.data.pixels import to_signed
from latentbrush.devices import CPU
from latentbrush.evaluation.perceptual import CLIPDistance
from latentbrush.training.draws import fingerprint, numpy_draws
from latentbrush.training.grid import picture_grid
from latentbrush.training.optimiser import decayed_groups
from latentbrush.training.recipe import FirstStageRecipe

__all__ = ["FirstStageTraining", "augmented", "decibels", "reconstruction_loss"]

SHOWN = 12
"""Held-out pictures in a sample grid."""


class FirstStageTraining(ABC):
    """The data and the reconstruction loss of a stage that learns z = E(x), x~ = D(z), on plain pictures and on
    cropped, flipped and recoloured ones.

    Held-out combinations are not seen; they are what `validate` measures.
    """

    def __init__(self, recipe: FirstStageRecipe, device: torch.device = CPU) -> None:
        self.device = device
        self._settings = recipe
        folder = ImageFolder(recipe.data.path)
        train, held_out = folder.select("train"), folder.select("validation")
        self.records = [EmojiRecord.parse(record) for record in train.records]
        self.weights = family_weights(self.records, recipe.data.family_exponent)
        self.large = train.load(2 * recipe.data.size)  # what crops are taken from
        self.pictures = train.load(recipe.data.size)  # (N, 3, s, s) uint8
        self.held_out = held_out.load(recipe.data.size)
        self.perceptual = CLIPDistance(recipe.perceptual_from, device) if recipe.perceptual else None

    @property
    @abstractmethod
    def module(self) -> nn.Module:
        """Everything that learns."""

    @abstractmethod
    def reconstructed(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, s, s) in [-1, 1] -> what the first stage makes of them, without any draw."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        return decayed_groups(self.module, self._settings.optimiser.weight_decay)

    def reconstruction(self, decoded: Tensor, x: Tensor) -> Tensor:
        """What all regularisers are added to."""
        loss = reconstruction_loss(decoded, x, self._settings.gradient)
        if self.perceptual is None:
            return loss
        return loss + self._settings.perceptual * self.perceptual(decoded.float(), x).mean()

    def batch(self, step: int) -> Tensor:
        """(B, 3, s, s) in [-1, 1]: plain pictures first, then the augmented share."""
        recipe = self._settings
        rng = numpy_draws(recipe.seed, step, "batch")
        chosen = torch.from_numpy(rng.choice(len(self.weights), recipe.batch, p=self.weights))
        plain = recipe.batch - round(recipe.augment * recipe.batch)
        pictures = to_signed(self.pictures[chosen[:plain]])
        if plain < recipe.batch:
            crops = augmented(to_signed(self.large[chosen[plain:]]), recipe.data.size, rng)
            pictures = torch.cat([pictures, crops])
        return pictures.to(self.device)

    def samples(self) -> Image.Image:
        x = to_signed(self.held_out[:: max(1, len(self.held_out) // SHOWN)][:SHOWN]).to(self.device)
        return picture_grid(torch.cat([x, self.reconstructed(x)]), columns=len(x))

    def fingerprint(self) -> str:
        records: list[Any] = [record.to_json() for record in self.records]
        facts = records if self.perceptual is None else [records, self.perceptual.identity.digest]
        return fingerprint(self.pictures.numpy(), self.large.numpy(), facts=facts)


def decibels(decoded: Tensor, x: Tensor) -> float:
    """The mean PSNR of pictures in [-1, 1], whose range is 2 and its square 4."""
    error = (decoded.clamp(-1, 1) - x).square().flatten(1).mean(1)
    return float((10.0 * torch.log10(4.0 / error)).mean())


def reconstruction_loss(decoded: Tensor, x: Tensor, gradient: float) -> Tensor:
    """L1, plus `gradient` times the L1 distance of horizontal and vertical differences, which keeps edges."""
    error = decoded - x
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + gradient * edges


def augmented(pictures: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """Random crops, shifts, mirror images and swaps of colour channels: (B, 3, S, S) -> (B, 3, size, size).

    Around a picture it is white. A first stage must code any drawing; what the drawing means, which
    mirroring would change, is the diffusion model's to learn.
    """
    batch = len(pictures)
    scale = rng.uniform(0.4, 1.1, batch)
    theta = np.zeros((batch, 2, 3), dtype=np.float32)
    theta[:, 0, 0] = scale * rng.choice([-1.0, 1.0], batch)
    theta[:, 1, 1] = scale * rng.choice([-1.0, 1.0], batch)
    theta[:, :, 2] = rng.uniform(-0.5, 0.5, (batch, 2))
    grid = F.affine_grid(torch.from_numpy(theta), [batch, 3, size, size], align_corners=False)
    # Zero padding of the distance to white is white.
    out = 1.0 - F.grid_sample(1.0 - pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    order = torch.from_numpy(rng.permuted(np.tile(np.arange(3), (batch, 1)), axis=1))
    return out.gather(1, order[:, :, None, None].expand_as(out))
