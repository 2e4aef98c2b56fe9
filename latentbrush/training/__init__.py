"""Training: recipes, the loop, and a stage for each part of the system."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from latentbrush.training.autoencoder import AutoencoderStage
from latentbrush.training.loop import Stage, TrainingProgress, train
from latentbrush.training.recipe import AutoencoderRecipe, TextToImageRecipe, load_recipe
from latentbrush.training.run import Run
from latentbrush.training.text_to_image import TextToImageStage

__all__ = [
    "AutoencoderRecipe",
    "Run",
    "Stage",
    "TextToImageRecipe",
    "TrainingProgress",
    "load_recipe",
    "run_recipe",
    "train",
]


def run_recipe(
    recipe: AutoencoderRecipe | TextToImageRecipe,
    directory: Path,
    *,
    resume: bool = False,
    on_step: Callable[[TrainingProgress], None] | None = None,
) -> None:
    """Train what the recipe says in the run folder `directory`; the finished model lies in its model/."""
    run = Run(directory, recipe, resume=resume)
    train(stage_of(recipe), recipe, run, on_step)


def stage_of(recipe: AutoencoderRecipe | TextToImageRecipe) -> Stage:
    """What trains the recipe's part; loads its data."""
    return AutoencoderStage(recipe) if isinstance(recipe, AutoencoderRecipe) else TextToImageStage(recipe)
