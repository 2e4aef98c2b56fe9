"""The contrastive stage: its batches, its figures, its runs and its recipes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tiny_contrastive import TEXT, VISION, contrastive_recipe, contrastive_values
from tiny_world import make_world

from latentbrush.errors import UserError
from latentbrush.formats import load_clip
from latentbrush.training import ContrastiveRecipe, TextToImageRecipe, TrainingProgress, load_recipe, run_recipe
from latentbrush.training.contrastive import MAX_LOGIT_SCALE, ContrastiveStage, contrastive_loss

pytestmark = pytest.mark.capability("train-clip")

ROOT = Path(__file__).parents[2]


def test_a_temperature_beyond_the_limit_comes_back(world: Path, tmp_path: Path) -> None:
    stage = ContrastiveStage(contrastive_recipe(world))
    torch.nn.init.constant_(stage.network.logit_scale, 7.0)
    stage.loss(0).backward()  # type: ignore[no-untyped-call]
    assert float(stage.network.logit_scale.detach()) == pytest.approx(MAX_LOGIT_SCALE)
    assert float(stage.network.logit_scale.grad or 0.0) != 0.0
    torch.nn.init.constant_(stage.network.logit_scale, 7.0)
    stage.finish(tmp_path / "model")
    assert float(load_clip(tmp_path / "model").network.logit_scale.detach().exp()) == pytest.approx(100.0, rel=2e-3)


def test_a_batch_counts_no_pair_of_one_caption_or_one_picture_as_negatives(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = ContrastiveStage(contrastive_recipe(world, batch=24))
    stage.drawings[1] = stage.drawings[0]  # two emoji that are drawn alike
    seen: list[torch.Tensor] = []

    def spy(text: torch.Tensor, image: torch.Tensor, scale: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
        seen.append(same)
        return contrastive_loss(text, image, scale, same)

    monkeypatch.setattr("latentbrush.training.contrastive.contrastive_loss", spy)
    stage.loss(4)
    chosen, captions = stage._batch(4)
    drawing = [min(int(i), int(i) - 1) if int(i) == 1 else int(i) for i in chosen]
    wanted = [[a == b or x == y for b, y in zip(captions, drawing)] for a, x in zip(captions, drawing)]  # noqa: B905
    assert seen[0].tolist() == wanted
    assert 24 < int(seen[0].sum()) < 24 * 24  # the batch is larger than the world: both cases occur


def test_batches_are_keyed_by_the_step_alone(world: Path) -> None:
    one, other = (ContrastiveStage(contrastive_recipe(world)) for _ in range(2))
    first = one._batch(5)
    for step in (0, 9):
        other._batch(step)
    again = other._batch(5)
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1]
    assert one._batch(6)[1] != first[1]
    assert ContrastiveStage(contrastive_recipe(world, seed=4))._batch(5)[1] != first[1]


def test_padding_that_no_end_can_see_is_left_out(world: Path) -> None:
    stage = ContrastiveStage(contrastive_recipe(world))
    stage.network.eval()
    full = stage.tokenizer.encode(["red", "a"])
    cut = stage._tokens(["red", "a"])
    assert cut.shape[1] < full.shape[1]
    with torch.no_grad():
        torch.testing.assert_close(stage.network.encode_text(cut), stage.network.encode_text(full))


class PowerCutError(Exception):
    """What ends a run in the middle."""


def cut_at(step: int) -> Callable[[TrainingProgress], None]:
    def on_step(progress: TrainingProgress) -> None:
        if progress.step == step:
            raise PowerCutError

    return on_step


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_resuming_is_bit_equal_to_never_stopping(world: Path, tmp_path: Path) -> None:
    recipe = contrastive_recipe(world)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_recipe(recipe, whole)
    with pytest.raises(PowerCutError):
        run_recipe(recipe, parts, on_step=cut_at(11))
    assert not (parts / "model").exists()
    torch.manual_seed(99)  # no draw may depend on what this process drew before
    run_recipe(recipe, parts, resume=True)
    first, second = (torch.load(run / "checkpoint.pt", weights_only=True) for run in (whole, parts))
    for name, tensor in first["module"].items():
        assert torch.equal(tensor, second["module"][name]), name
    for mine, yours in zip(first["ema"]["average"], second["ema"]["average"], strict=True):
        assert torch.equal(mine, yours)
    assert (whole / "log.jsonl").read_bytes() == (parts / "log.jsonl").read_bytes()
    assert files_of(whole / "model") == files_of(parts / "model")
    assert files_of(whole / "samples") == files_of(parts / "samples")


def test_sixty_steps_lower_the_loss_and_find_what_was_trained(world: Path, tmp_path: Path) -> None:
    still = {"text": TEXT | {"dropout": 0.0}, "vision": VISION | {"dropout": 0.0}}
    recipe = contrastive_recipe(
        world, steps=60, batch=8, optimiser={"lr": 1e-2, "warmup": 5}, validate_every=60, **still
    )
    before = ContrastiveStage(recipe)
    with torch.no_grad():
        untrained = np.mean([float(before.loss(step)) for step in range(1000, 1010)])
    run_recipe(recipe, tmp_path / "run")
    after = ContrastiveStage(recipe)
    after.network.load_state_dict(load_clip(tmp_path / "run" / "model").network.state_dict())
    with torch.no_grad():
        trained = np.mean([float(after.loss(step)) for step in range(1000, 1010)])
    assert trained < 0.75 * untrained
    figures = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()][-1]
    names = {f"{part}_{way}" for part in ("validation", "train") for way in ("text_to_picture", "picture_to_text")}
    assert {"step", "validation_loss", "scale", *names} == figures.keys()
    assert all(0.0 <= figures[name] <= 1.0 for name in names)


def test_the_sheet_shows_a_row_a_caption_and_a_column_a_picture(world: Path) -> None:
    stage = ContrastiveStage(contrastive_recipe(world))
    stage.network.eval()
    with torch.inference_mode():
        sheet = stage.samples()
    assert sheet.height == 4 * 56 + 4  # three held-out pairs and the row of pictures
    assert sheet.width > 3 * 56 + 4 + 20  # and the captions
    corner = stage.held_out_pictures[0, :, 0, 0].tolist()
    assert list(sheet.getpixel((sheet.width - 3 * 56 - 4, 2))) == corner  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision": VISION | {"image_size": 16}}, "vision.image_size 16 is not data.size 8"),
        ({"vision": VISION | {"patch_size": 3}}, "not a multiple of its patch_size 3"),
        ({"vision": VISION | {"channels": 4}}, "vision.channels 4"),
        ({"vision": VISION | {"colour": 4}}, "unknown key 'colour'"),
        ({"text": TEXT | {"vocab_size": 520}}, "text.vocab_size 520 is below tokenizer.vocab_size 530"),
        ({"text": TEXT | {"max_positions": 7}}, "text.max_positions 7 is below tokenizer.max_length 8"),
        ({"batch": 1}, "batch 1"),
        ({"projection": 0}, "projection"),
        ({"unet": {}}, "unet"),
    ],
)
def test_recipes_that_cannot_be_trained_are_refused(
    changes: dict[str, Any], message: str, world: Path, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(contrastive_values(world)))
    assert isinstance(load_recipe(path), ContrastiveRecipe)
    path.write_text(yaml.safe_dump(contrastive_values(world, **changes)))
    with pytest.raises(UserError, match=message):
        load_recipe(path)


def test_the_emoji_recipe_fits_its_budget_and_that_of_text_to_image() -> None:
    recipe, paint = load_recipe(ROOT / "recipes" / "emoji-clip.yaml"), load_recipe(ROOT / "recipes" / "emoji.yaml")
    assert isinstance(recipe, ContrastiveRecipe)
    assert isinstance(paint, TextToImageRecipe)
    assert replace(recipe.text, dropout=paint.text.dropout) == paint.text
    assert (recipe.tokenizer, recipe.data.size) == (paint.tokenizer, paint.data.size)
    from latentbrush.nn import CLIPConfig, CLIPModel

    with torch.device("meta"):
        network = CLIPModel(
            CLIPConfig(text=recipe.text, vision=recipe.vision, projection=recipe.projection, eos_id=4095)
        )
    assert sum(parameter.numel() for parameter in network.parameters()) < 7e6


def test_pictures_that_are_drawn_alike_count_as_found(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "world")
    for key in ("validation-1", "validation-2"):
        (folder / f"{key}.png").write_bytes((folder / "validation-0.png").read_bytes())
    stage = ContrastiveStage(contrastive_recipe(folder))
    stage.network.eval()
    with torch.inference_mode():
        figures = stage.validate()
    assert figures["validation_text_to_picture"] == figures["validation_picture_to_text"] == 1.0
    assert figures["train_text_to_picture"] < 1.0
