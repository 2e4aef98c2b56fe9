"""The first stage with KL regularisation, trained to reconstruct (LDM, section 3.1)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from latentbrush.data.pixels import to_signed
from latentbrush.devices import CPU, autocast
from latentbrush.formats import save_autoencoder
from latentbrush.nn import AutoencoderKL
from latentbrush.training.draws import torch_draws, torch_seed
from latentbrush.training.first_stage import FirstStageTraining, decibels
from latentbrush.training.recipe import AutoencoderRecipe

__all__ = ["AutoencoderStage"]


class AutoencoderStage(FirstStageTraining):
    """Learns a posterior of latents that a decoder reconstructs from, held near to the standard normal."""

    def __init__(self, recipe: AutoencoderRecipe, device: torch.device = CPU) -> None:
        super().__init__(recipe, device)
        self.recipe = recipe
        torch.manual_seed(torch_seed(recipe.seed, 0, "initialisation"))
        self.network = AutoencoderKL(recipe.autoencoder).to(device)

    @property
    def module(self) -> nn.Module:
        return self.network

    def loss(self, step: int) -> Tensor:
        x = self.batch(step)
        with autocast(self.device, self.recipe.precision):
            posterior = self.network.encode(x)
            decoded = self.network.decode(posterior.sample(torch_draws(self.recipe.seed, step, "posterior")))
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return self.reconstruction(decoded, x) + self.recipe.kl * kl

    def reconstructed(self, x: Tensor) -> Tensor:
        return self.network.decode(self.network.encode(x).mode())

    def validate(self) -> dict[str, float]:
        x = to_signed(self.held_out).to(self.device)
        posterior = self.network.encode(x)
        psnr = decibels(self.network.decode(posterior.mode()), x)
        return {"psnr": psnr, "kl": float(posterior.kl().mean() / posterior.mean[0].numel())}

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
