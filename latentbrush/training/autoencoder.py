"""The first stage: a KL autoencoder trained to reconstruct (LDM, section 3.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from latentbrush.data.emoji import EmojiRecord, family_weights
from latentbrush.data.folder import ImageFolder
from latentbrush.data.pixels import to_signed
from latentbrush.devices import CPU, autocast
from latentbrush.formats import save_autoencoder
from latentbrush.nn import AutoencoderKL
from latentbrush.training.draws import fingerprint, numpy_draws, torch_draws, torch_seed
from latentbrush.training.grid import picture_grid
from latentbrush.training.optimiser import decayed_groups
from latentbrush.training.recipe import AutoencoderRecipe

__all__ = ["AutoencoderStage"]

SHOWN = 12
"""Held-out pictures in a sample grid."""


class AutoencoderStage:
    """Learns z = E(x), x~ = D(z) on plain pictures and on cropped, flipped and recoloured ones.

    Held-out combinations are not seen; they are what `validate` measures.
    """

    def __init__(self, recipe: AutoencoderRecipe, device: torch.device = CPU) -> None:
        self.recipe, self.device = recipe, device
        folder = ImageFolder(recipe.data.path)
        train, held_out = folder.select("train"), folder.select("validation")
        self.records = [EmojiRecord.parse(record) for record in train.records]
        self.weights = family_weights(self.records, recipe.data.family_exponent)
        self.large = train.load(2 * recipe.data.size)  # what crops are taken from
        self.pictures = train.load(recipe.data.size)  # (N, 3, s, s) uint8
        self.held_out = held_out.load(recipe.data.size)
        torch.manual_seed(torch_seed(recipe.seed, 0, "initialisation"))
        self.network = AutoencoderKL(recipe.autoencoder).to(device)

    @property
    def module(self) -> nn.Module:
        return self.network

    def parameter_groups(self) -> list[dict[str, Any]]:
        return decayed_groups(self.network, self.recipe.optimiser.weight_decay)

    def loss(self, step: int) -> Tensor:
        x = self._batch(step).to(self.device)
        with autocast(self.device, self.recipe.precision):
            posterior = self.network.encode(x)
            decoded = self.network.decode(posterior.sample(torch_draws(self.recipe.seed, step, "posterior")))
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return reconstruction_loss(decoded, x, self.recipe.gradient) + self.recipe.kl * kl

    def _batch(self, step: int) -> Tensor:
        """(B, 3, s, s) in [-1, 1]: plain pictures first, then the augmented share."""
        rng = numpy_draws(self.recipe.seed, step, "batch")
        chosen = torch.from_numpy(rng.choice(len(self.weights), self.recipe.batch, p=self.weights))
        plain = self.recipe.batch - round(self.recipe.augment * self.recipe.batch)
        pictures = to_signed(self.pictures[chosen[:plain]])
        if plain == self.recipe.batch:
            return pictures
        return torch.cat([pictures, augmented(to_signed(self.large[chosen[plain:]]), self.recipe.data.size, rng)])

    def validate(self) -> dict[str, float]:
        x = to_signed(self.held_out).to(self.device)
        posterior = self.network.encode(x)
        error = (self.network.decode(posterior.mode()).clamp(-1, 1) - x).square().flatten(1).mean(1)
        psnr = 10.0 * torch.log10(4.0 / error)  # the range is 2, its square 4
        return {"psnr": float(psnr.mean()), "kl": float(posterior.kl().mean() / posterior.mean[0].numel())}

    def samples(self) -> Image.Image:
        x = to_signed(self.held_out[:: max(1, len(self.held_out) // SHOWN)][:SHOWN]).to(self.device)
        return picture_grid(torch.cat([x, self.network.decode(self.network.encode(x).mode())]), columns=len(x))

    def fingerprint(self) -> str:
        records = [record.to_json() for record in self.records]
        return fingerprint(self.pictures.numpy(), self.large.numpy(), facts=records)

    def finish(self, directory: Path) -> str | None:
        """Fold the latents' per-channel statistics in, and write `directory`/vae."""
        with torch.inference_mode():
            parts = torch.split(self.pictures, 256)
            posteriors = [self.network.encode(to_signed(part).to(self.device)) for part in parts]
        mean = torch.cat([p.mean for p in posteriors])
        variance = torch.cat([p.logvar.exp() for p in posteriors]).mean((0, 2, 3)) + mean.var((0, 2, 3))
        self.network.fold_statistics(mean.mean((0, 2, 3)), variance.sqrt())
        save_autoencoder(self.network, directory / "vae", overwrite=True)
        return None


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
