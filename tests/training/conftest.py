"""The made-up world, and a first stage trained on it, once a session."""

from pathlib import Path

import pytest
from tiny_world import autoencoder_recipe, make_world

from latentbrush.training import run_recipe


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world") / "emoji")


@pytest.fixture(scope="session")
def first_stage(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a finished first stage, hardly trained."""
    run = tmp_path_factory.mktemp("first_stage") / "run"
    run_recipe(autoencoder_recipe(world, steps=2), run)
    return run / "model"
