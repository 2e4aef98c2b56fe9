"""The perceptual term of the first stage's loss: through whose tower it looks, and what it moves."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_contrastive import contrastive_recipe
from tiny_vq import vq_recipe
from tiny_world import autoencoder_recipe

from latentbrush.errors import UserError
from latentbrush.evaluation.perceptual import CLIPDistance
from latentbrush.training import FirstStageRecipe, run_recipe, stage_of
from latentbrush.training.first_stage import FirstStageTraining

pytestmark = pytest.mark.capability("perceptual-term")


@pytest.fixture(scope="module")
def clip(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tower of 8-pixel pictures, which is what the world has."""
    run = tmp_path_factory.mktemp("clip") / "run"
    run_recipe(contrastive_recipe(world, steps=1), run)
    return run / "model"


def stage(recipe: FirstStageRecipe) -> FirstStageTraining:
    made = stage_of(recipe)
    assert isinstance(made, FirstStageTraining)
    return made


@pytest.mark.parametrize("recipe_of", [autoencoder_recipe, vq_recipe])
def test_the_term_is_weighed_and_reaches_the_network(recipe_of: Any, world: Path, clip: Path) -> None:
    plain = stage(recipe_of(world))
    with_it = stage(recipe_of(world, perceptual=0.5, perceptual_from=str(clip)))
    x = plain.batch(0)
    decoded = (0.8 * x).requires_grad_()
    distance = CLIPDistance(str(clip))
    added = with_it.reconstruction(decoded, x) - plain.reconstruction(decoded, x)
    torch.testing.assert_close(added, 0.5 * distance(decoded, x).mean())
    assert float(added.detach()) > 0.0
    (grad,) = torch.autograd.grad(added, decoded)
    assert float(grad.abs().sum()) > 0.0
    # The tower is looked through, not trained.
    assert {id(p) for p in with_it.module.parameters()}.isdisjoint({id(p) for p in distance.tower.parameters()})
    assert sum(p.numel() for p in with_it.module.parameters()) == sum(p.numel() for p in plain.module.parameters())


def test_a_run_goes_on_with_the_same_tower_only(world: Path, clip: Path, tmp_path: Path) -> None:
    recipe = autoencoder_recipe(world, steps=2, perceptual=0.1, perceptual_from=str(tmp_path / "clip"))
    (tmp_path / "clip").symlink_to(clip)
    run_recipe(recipe, tmp_path / "run")
    run_recipe(recipe, tmp_path / "run", resume=True)
    run_recipe(contrastive_recipe(world, steps=1, seed=5), tmp_path / "other")
    (tmp_path / "clip").unlink()
    (tmp_path / "clip").symlink_to(tmp_path / "other" / "model")
    with pytest.raises(UserError, match="have changed since its checkpoint"):
        run_recipe(recipe, tmp_path / "run", resume=True)


def test_a_tower_that_is_not_there_is_named_before_the_run_begins(world: Path, tmp_path: Path) -> None:
    recipe = autoencoder_recipe(world, perceptual=1.0, perceptual_from="nowhere")
    with pytest.raises(UserError, match="'nowhere' is no folder"):
        run_recipe(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    stage(autoencoder_recipe(world, perceptual_from="nowhere"))  # it is not asked for
