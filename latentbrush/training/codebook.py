"""What a codebook needs beside gradients: entries that follow their latents, and new places for those that died."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latentbrush.nn import VQAutoencoder
from latentbrush.training.recipe import CodebookRecipe

__all__ = ["CodebookKeeper"]


class CodebookKeeper(nn.Module):
    """Its buffers lie in the checkpoint, so that a resumed run moves and replaces the same entries.

    `idle` (n,): steps since an entry was the nearest of any latent, or was replaced. `counts` (n,) and `sums` (n, c):
    the moving averages of the number of latents of an entry and of their sum, for the rule `ema`. All entries begin
    as idle as can be: what the first batch leaves out is replaced at once, since the initial codebook has seen no
    latent.
    """

    idle: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, network: VQAutoencoder, recipe: CodebookRecipe) -> None:
        super().__init__()
        codebook = network.codebook.weight
        self.recipe = recipe
        self.register_buffer("idle", torch.full((len(codebook),), recipe.restart_after, dtype=torch.int64))
        if recipe.rule == "ema":
            self.register_buffer("counts", torch.zeros(len(codebook)))
            self.register_buffer("sums", torch.zeros(codebook.shape))

    @torch.no_grad()
    def follow(self, codebook: Tensor, latents: Tensor, indices: Tensor) -> None:
        """For the rule `ema`: entries move to the moving average of the latents (B, c, h, w), not quantised, whose
        nearest they are, by `indices` (B, h, w) (VQ-VAE, equations 6 to 8).

        The others stay: both their averages shrink alike, so that the quotient is what it was.
        """
        cells, indices = latents.permute(0, 2, 3, 1).reshape(-1, codebook.shape[1]), indices.flatten()
        weight = 1.0 - self.recipe.decay
        found = torch.zeros_like(self.counts).index_add_(0, indices, torch.ones_like(cells[:, 0]))
        self.counts.lerp_(found, weight)
        self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, indices, cells), weight)
        used = found > 0
        codebook[used] = self.sums[used] / self.counts[used, None]

    @torch.no_grad()
    def restart(self, codebook: Tensor, latents: Tensor, indices: Tensor, draws: torch.Generator) -> Tensor:
        """Put the entries that died in the places of random latents; returns the rows (m,) replaced. As `follow`.

        No two take the place of one latent: where there are more dead than latents, the others wait for a next batch.
        """
        self.idle += 1
        self.idle[indices.flatten()] = 0
        cells = latents.permute(0, 2, 3, 1).reshape(-1, codebook.shape[1])
        rows = (self.idle > self.recipe.restart_after).nonzero().flatten()[: len(cells)]
        if not self.recipe.restart_after or not len(rows):
            return rows[:0]
        places = torch.randperm(len(cells), generator=draws)[: len(rows)].to(cells.device)
        codebook[rows] = cells[places]
        self.idle[rows] = 0
        if self.recipe.rule == "ema":
            self.counts[rows] = 1.0
            self.sums[rows] = cells[places]
        return rows
