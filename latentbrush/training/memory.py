"""Whether the networks of a recipe can be trained on this computer at all, asked before they are made."""

from __future__ import annotations

from torch import nn

from latentbrush.devices import memory_for
from latentbrush.formats.empty import without_memory
from latentbrush.nn import AutoencoderKL, CLIPConfig, CLIPModel, CLIPTextModel, UNet, VQAutoencoder
from latentbrush.training.recipe import AnyRecipe, AutoencoderRecipe, ContrastiveRecipe, VQAutoencoderRecipe

__all__ = ["check_networks"]

WEIGHT = 4
"""Bytes. A GPU holds the gradient, AdamW's two moments and the EMA; the weights are made on the CPU everywhere."""


def check_networks(recipe: AnyRecipe) -> None:
    """UserError where the weights alone of what is trained are more than the memory of this computer."""
    with without_memory():
        networks = _networks(recipe)
    count = sum(weight.numel() for network in networks for weight in network.parameters())
    memory_for(f"the {count:.3g} weights of the networks", WEIGHT * count, "make them smaller in the recipe")


def _networks(recipe: AnyRecipe) -> list[nn.Module]:
    if isinstance(recipe, AutoencoderRecipe):
        return [AutoencoderKL(recipe.autoencoder)]
    if isinstance(recipe, VQAutoencoderRecipe):
        return [VQAutoencoder(recipe.autoencoder)]
    if isinstance(recipe, ContrastiveRecipe):
        return [
            CLIPModel(CLIPConfig(text=recipe.text, vision=recipe.vision, projection=recipe.projection, eos_id=None))
        ]
    return [UNet(recipe.unet), CLIPTextModel(recipe.text)]
