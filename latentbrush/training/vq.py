"""The first stage with vector quantisation (VQGAN, Esser et al. 2021; LDM, section 3.1), without an adversary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentbrush.data.pixels import to_signed
from latentbrush.devices import CPU, autocast
from latentbrush.evaluation import codebook_usage
from latentbrush.formats import save_vq
from latentbrush.nn import VQAutoencoder
from latentbrush.training.codebook import CodebookKeeper
from latentbrush.training.draws import torch_draws, torch_seed
from latentbrush.training.ema import EMA
from latentbrush.training.first_stage import FirstStageTraining, decibels
from latentbrush.training.optimiser import decayed_groups
from latentbrush.training.recipe import VQAutoencoderRecipe

__all__ = ["VQAutoencoderStage"]


class VQAutoencoderStage(FirstStageTraining):
    """Learns latents of which a decoder reconstructs pictures when each cell is replaced by an entry of a codebook."""

    def __init__(self, recipe: VQAutoencoderRecipe, device: torch.device = CPU) -> None:
        super().__init__(recipe, device)
        self.recipe = recipe
        torch.manual_seed(torch_seed(recipe.seed, 0, "initialisation"))
        self.network = VQAutoencoder(recipe.autoencoder).to(device)
        self.learned = recipe.codebook.rule == "learned"
        self.network.codebook.requires_grad_(self.learned)
        self.keeper = CodebookKeeper(self.network, recipe.codebook).to(device)
        self._trained = nn.ModuleDict({"network": self.network, "keeper": self.keeper})
        self._last: tuple[int, Tensor, Tensor] | None = None

    @property
    def module(self) -> nn.Module:
        return self._trained

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The codebook does not decay: its entries are places, and 0 is none of theirs."""
        others = nn.ModuleList(part for name, part in self.network.named_children() if name != "codebook")
        groups = decayed_groups(others, self.recipe.optimiser.weight_decay)
        codebook = {"params": [self.network.codebook.weight], "weight_decay": 0.0, "lr_scale": 1.0}
        return [*groups, codebook] if self.learned else groups

    def loss(self, step: int) -> Tensor:
        x = self.batch(step)
        with autocast(self.device, self.recipe.precision):
            # Distances and codebook stay in float32: near entries are one and the same in bfloat16.
            z = self.network.encode(x).float()
            quantised = self.network.quantise(z)
            decoded = self.network.decode_entries(quantised.latents)
        self._last = step, z.detach() / self.network.config.scaling_factor, quantised.indices
        loss = self.reconstruction(decoded, x) + self.recipe.commitment * quantised.commitment.mean()
        return loss + quantised.codebook.mean() if self.learned else loss

    def settle(self, ema: EMA) -> None:
        """After a step: move or replace entries by the step's latents, in the weights and in their average."""
        assert self._last is not None
        (step, latents, indices), codebook = self._last, self.network.codebook.weight
        if not self.learned:
            self.keeper.follow(codebook, latents, indices)
        draws = torch_draws(self.recipe.seed, step, "restart")
        ema.follow(codebook, self.keeper.restart(codebook, latents, indices, draws))

    def reconstructed(self, x: Tensor) -> Tensor:
        return self.network.decode(self.network.encode(x))

    def validate(self) -> dict[str, float]:
        """PSNR of held-out pictures, and how the codebook serves them: they are few, and may not need all of it."""
        x = to_signed(self.held_out).to(self.device)
        quantised = self.network.quantise(self.network.encode(x))
        usage = codebook_usage(quantised.indices, self.recipe.autoencoder.codebook_size)
        return {
            "psnr": decibels(self.network.decode_entries(quantised.latents), x),
            "commitment": float(quantised.commitment.mean()),
            "perplexity": usage.perplexity,
            "codes_used": usage.share,
        }

    def finish(self, directory: Path) -> str | None:
        """Make the latents standard, and write `directory`/vqvae."""
        with torch.inference_mode():
            parts = torch.split(self.pictures, 256)
            latents = torch.cat([self.network.encode(to_signed(part).to(self.device)) for part in parts])
        self.network.fold_statistics(latents.mean((0, 2, 3)), latents.var((0, 2, 3)).mean().sqrt())
        save_vq(self.network, directory / "vqvae", overwrite=True)
        return None
