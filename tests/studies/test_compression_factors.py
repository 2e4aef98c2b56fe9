"""LDM-f at both scales: the paper's networks by their published sizes, ours by equal ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from latentbrush.errors import UserError
from latentbrush.nn import UNet
from latentbrush.studies.compression import FACTORS, parse_factors
from latentbrush.studies.compression.factors import (
    PAPER,
    compression_recipe,
    forward_flops,
    paper_recipe,
    setting_of,
    step_flops,
)
from latentbrush.training import TextToImageRecipe, load_recipe

pytestmark = pytest.mark.capability("studies")

DATA = Path("data/emoji")


def ours(factor: int) -> TextToImageRecipe:
    return compression_recipe(factor, DATA, None, steps=100, measures=4)


def parameters(recipe: TextToImageRecipe) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in UNet(recipe.unet).parameters())


def test_names_of_factors() -> None:
    assert parse_factors("8, 1,8") == (1, 8)
    for text in ("3", "", "f8"):
        with pytest.raises(UserError, match="is none of 1, 2, 4, 8, 16, 32"):
            parse_factors(text)


def test_first_stages_are_the_zoo_s_with_most_channels() -> None:
    names = [None if (row := setting_of(f)) is None else row.name for f in FACTORS]
    assert names == [None, "kl-f2-c2", "kl-f4-c3", "kl-f8-c4", "kl-f16-c16", "kl-f32-c64"]
    for factor in FACTORS:
        recipe, setting = ours(factor), setting_of(factor)
        assert recipe.unet.sample_size * factor == recipe.data.size == 32
        assert recipe.unet.in_channels == (3 if setting is None else setting.channels)
        assert paper_recipe(factor, DATA, None).unet.sample_size * factor == 256


def test_all_are_alike_but_for_their_compute() -> None:
    recipes = [ours(factor) for factor in FACTORS]
    counts = [parameters(recipe) for recipe in recipes]
    assert max(counts) < 1.04 * min(counts)
    first, *others = [recipe.model_dump(mode="json", exclude={"unet"}) for recipe in recipes]
    assert all(other == first for other in others)
    works = [step_flops(recipe) for recipe in recipes]
    assert works == sorted(works, reverse=True)
    assert works[0] > 5 * works[-1]
    assert (recipes[0].validate_every, recipes[0].checkpoint_every) == (25, 25)


@pytest.mark.parametrize("factor", FACTORS)
def test_the_paper_s_networks_are_as_large_as_published(factor: int) -> None:
    """Within half a per cent; but at f = 4 within 3, where what the table leaves out is not known to us: these
    channels make the 401 million of the released class-conditional LDM-4."""
    count = parameters(paper_recipe(factor, DATA, None)) / 1e6
    assert count == pytest.approx(PAPER[factor].parameters, rel=0.03 if factor == 4 else 0.005)


def test_work_is_counted_by_hand_for_a_small_one() -> None:
    """One level without depth to speak of: every product of UNet and text tower counted."""
    values = ours(8).model_dump(mode="json")
    values["unet"] |= {
        "sample_size": 2, "channels": [8], "attention": [False], "heads": [1], "depth": [1], "groups": 4,
        "in_channels": 1, "out_channels": 1, "context_width": 4,
    }  # fmt: skip
    values["tokenizer"]["max_length"] = 5
    values["text"] |= {"width": 4, "layers": 1, "heads": 1, "mlp_width": 8, "max_positions": 5}
    recipe = TextToImageRecipe.model_validate(values)
    cells, tokens, time = 4, 5, 32
    embedding = 8 * time + time * time
    block = 2 * cells * 9 * 8 * 8 + time * 8  # two convolutions, the time
    wider = cells * 9 * 16 * 8 + cells * 9 * 8 * 8 + cells * 16 * 8 + time * 8
    own = 4 * cells * 8 * 8 + 2 * cells * cells * 8  # of the middle's transformer
    cross = 2 * cells * 8 * 8 + 2 * tokens * 4 * 8 + 2 * cells * tokens * 8
    around = 2 * cells * 8 * 8 + cells * (8 * 64 + 32 * 8)
    unet = 2 * cells * 9 * 8 + embedding + block + 2 * block + own + cross + around + 2 * wider
    text = 4 * tokens * 4 * 4 + 2 * tokens * tokens * 4 + 2 * tokens * 4 * 8
    assert forward_flops(recipe) == (2 * unet, 2 * text)
    assert step_flops(recipe) == 3 * 2 * (unet + text) * 32


@pytest.mark.parametrize("factor", FACTORS)
def test_the_papers_recipes_lie_in_files(factor: int) -> None:
    path = Path(__file__).parents[2] / "recipes" / "compression" / f"ldm-{factor}.yaml"
    stage = None if factor == 1 else Path(f"runs/first-stage-f{factor}/model")
    assert load_recipe(path) == paper_recipe(factor, Path("data/imagenet"), stage)
