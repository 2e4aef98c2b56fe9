"""Training: recipes, the loop, and a stage for each part of the system."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from latentbrush.devices import CPU, enough_memory
from latentbrush.errors import UserError
from latentbrush.training.autoencoder import AutoencoderStage
from latentbrush.training.contrastive import ContrastiveStage
from latentbrush.training.loop import Stage, TrainingProgress, train
from latentbrush.training.memory import check_networks
from latentbrush.training.recipe import (
    AnyRecipe,
    AutoencoderRecipe,
    ContrastiveRecipe,
    FirstStageRecipe,
    TextToImageRecipe,
    VQAutoencoderRecipe,
    load_recipe,
)
from latentbrush.training.run import Run
from latentbrush.training.text_to_image import TextToImageStage
from latentbrush.training.vq import VQAutoencoderStage

__all__ = [
    "AnyRecipe",
    "AutoencoderRecipe",
    "ContrastiveRecipe",
    "FirstStageRecipe",
    "Run",
    "Stage",
    "TextToImageRecipe",
    "TrainingProgress",
    "VQAutoencoderRecipe",
    "load_recipe",
    "run_recipe",
    "train",
]


def run_recipe(
    recipe: AnyRecipe,
    directory: Path,
    *,
    resume: bool = False,
    device: torch.device = CPU,
    on_step: Callable[[TrainingProgress], None] | None = None,
) -> str | None:
    """Train what the recipe says in the run folder `directory`; the finished model lies in its model/.

    Returns what the user is to be told of the finished model, if anything.
    """
    run = Run(directory, recipe, resume=resume)
    with enough_memory("this recipe", "choose a smaller batch, data.size or network, and another folder for the run"):
        return train(stage_of(recipe, device), recipe, run, on_step)


def stage_of(recipe: AnyRecipe, device: torch.device = CPU) -> Stage:
    """What trains the recipe's part on `device`; loads its data. UserError where it cannot be trained here."""
    check_networks(recipe)
    if isinstance(recipe, AutoencoderRecipe):
        return AutoencoderStage(recipe, device)
    if isinstance(recipe, VQAutoencoderRecipe):
        return VQAutoencoderStage(recipe, device)
    if isinstance(recipe, ContrastiveRecipe):
        return ContrastiveStage(recipe, device)
    if recipe.first_stage is None:
        raise UserError(
            "first_stage null would train in pixels a model that no folder has a place for; name a finished first stage"
        )
    return TextToImageStage(recipe, device)
