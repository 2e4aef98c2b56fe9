"""What text-to-image takes from a contrastive run, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_contrastive import TEXT, contrastive_recipe
from tiny_world import text_to_image_values

from latentbrush.errors import UserError
from latentbrush.formats import load_clip, load_model
from latentbrush.training import TextToImageRecipe, run_recipe, stage_of

pytestmark = pytest.mark.capability("text-from-clip")


@pytest.fixture(scope="module")
def clip_run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("clip") / "run"
    run_recipe(contrastive_recipe(world, steps=2), run)
    return run / "model"


def text_to_image(world: Path, first_stage: Path, **changes: Any) -> TextToImageRecipe:
    return TextToImageRecipe.model_validate(text_to_image_values(world, first_stage, **changes))


def test_text_to_image_starts_from_a_contrastive_run(
    clip_run: Path, world: Path, first_stage: Path, tmp_path: Path
) -> None:
    clip = load_clip(clip_run)
    recipe = text_to_image(world, first_stage, text_from=str(clip_run), text=TEXT | {"dropout": 0.1}, steps=1)
    stage = stage_of(recipe)
    trained = {key: value for key, value in stage.module.state_dict().items() if key.startswith("text.")}
    expected = clip.network.text_model.state_dict()
    assert trained.keys() == {f"text.{key}" for key in expected}
    for key, tensor in expected.items():
        assert torch.equal(trained[f"text.{key}"], tensor), key
    scratch = stage_of(text_to_image(world, first_stage)).module.state_dict()
    assert not torch.equal(scratch["text.layers.0.mlp.fc1.weight"], trained["text.layers.0.mlp.fc1.weight"])
    assert torch.equal(scratch["unet.conv_in.weight"], stage.module.state_dict()["unet.conv_in.weight"])
    run_recipe(recipe, tmp_path / "run")
    assert clip.tokenizer is not None
    model = load_model(tmp_path / "run" / "model")
    assert model.text.tokenizer.vocab == clip.tokenizer.vocab
    assert model.text.encoder.config.dropout == 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": TEXT | {"mlp_width": 16}}, "text.mlp_width is 16 in the recipe, but 8 in text_from"),
        ({"text": TEXT | {"activation": "gelu"}}, "text.activation is 'gelu' in the recipe, but 'quick_gelu'"),
        ({"text": TEXT | {"vocab_size": 540}}, "text.vocab_size is 540"),
        ({"tokenizer": {"vocab_size": 530, "max_length": 7}}, "tokenizer.max_length is 7 in the recipe, but 8"),
        ({"tokenizer": {"vocab_size": 520, "max_length": 8}}, "tokenizer.vocab_size is 520 in the recipe, but 530"),
    ],
)
def test_a_text_tower_of_another_shape_is_refused(
    changes: dict[str, Any], message: str, clip_run: Path, world: Path, first_stage: Path
) -> None:
    with pytest.raises(UserError, match=message):
        stage_of(text_to_image(world, first_stage, text_from=str(clip_run), **changes))


def test_a_text_from_without_a_model_is_named(world: Path, first_stage: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere' is no folder; give one of transformers' CLIPModel"):
        stage_of(text_to_image(world, first_stage, text_from=str(tmp_path / "nowhere")))
