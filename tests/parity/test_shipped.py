"""The model that ships in the package, opened by diffusers as anybody would, paints the same pictures there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

import latentbrush
from latentbrush import GuidanceRequest, ImageRequest, Sampling, generate
from latentbrush.formats import load_clip, shipped_clips, shipped_models
from latentbrush.model import LatentDiffusion
from latentbrush.training import AutoencoderRecipe, ContrastiveRecipe, TextToImageRecipe, load_recipe

pytestmark = pytest.mark.capability("shipped-model")

PROMPTS = ["a red heart", "빨간 하트", "cat face", "고양이 얼굴"]
# Values are rounded to 0..255; where they lie near a half, either side may fall.
PIXELS = 1
LARGEST = 40_000_000  # bytes, so that the package stays small enough for every index
LARGEST_CLIP = 15_000_000
RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def folder() -> Path:
    return shipped_models()["emoji"]


@pytest.fixture(scope="module")
def model() -> LatentDiffusion:
    return latentbrush.load("emoji")


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> StableDiffusionPipeline:
    """With default arguments: whatever diffusers makes of the files."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def array(image: Any) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("prompt", PROMPTS[:2])
def test_diffusers_paints_the_same_with_the_models_defaults(
    model: LatentDiffusion, pipeline: StableDiffusionPipeline, prompt: str
) -> None:
    images = generate(model, ImageRequest(prompt=prompt, sampling=Sampling(seed=11, count=3)))
    defaults = model.defaults
    found = pipeline(
        [prompt] * 3,
        num_inference_steps=defaults.steps,
        guidance_scale=defaults.guidance,
        eta=model.plan_options.get("eta", 0.0),
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in (11, 12, 13)],
    ).images
    for mine, theirs in zip(images, found, strict=True):
        assert theirs.size == (defaults.width, defaults.height)
        assert int(np.abs(array(mine.image) - array(theirs)).max()) <= PIXELS


@pytest.mark.capability("diffusers-noise")
def test_diffusers_paints_the_same_with_its_own_defaults(
    model: LatentDiffusion, pipeline: StableDiffusionPipeline
) -> None:
    """No argument but prompt and seed: 50 steps, guidance 7.5, and the model's size."""
    [theirs] = pipeline(PROMPTS[0], generator=torch.Generator("cpu").manual_seed(5)).images
    request = ImageRequest(prompt=PROMPTS[0], sampling=Sampling(steps=50, seed=5), guidance=GuidanceRequest(weight=7.5))
    [mine] = generate(model, request)
    assert int(np.abs(array(mine.image) - array(theirs)).max()) <= PIXELS


@pytest.mark.capability("korean-prompts")
def test_prompts_in_both_languages_are_understood_apart(model: LatentDiffusion) -> None:
    """Equal seeds, other words, other pictures: in English, in Korean, and from one to the other."""
    pictures = [
        array(generate(model, ImageRequest(prompt=prompt, sampling=Sampling(seed=1)))[0].image) for prompt in PROMPTS
    ]
    for i, picture in enumerate(pictures):
        assert picture.std() > 5  # not constant
        for other in pictures[:i]:
            assert np.abs(picture - other).max() > 25


def test_no_prompt_is_cut(model: LatentDiffusion) -> None:
    assert [model.text.cut(prompt) for prompt in PROMPTS] == [""] * len(PROMPTS)


@pytest.mark.capability("offline")
def test_it_loads_without_network(no_network: Any) -> None:
    """By name, in eval mode, and in float32 whatever the files hold."""
    model = latentbrush.load("emoji")
    assert no_network.attempts == []
    assert model.dtype == torch.float32
    assert not any(part.training for part in (model.unet, model.autoencoder, model.text))


def test_folder_is_small_and_documented(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LARGEST
    assert (folder / "README.md").read_text(encoding="utf-8").strip()


def test_it_is_what_the_recipes_make(model: LatentDiffusion) -> None:
    first, second = load_recipe(RECIPES / "emoji-autoencoder.yaml"), load_recipe(RECIPES / "emoji.yaml")
    assert isinstance(first, AutoencoderRecipe)
    assert isinstance(second, TextToImageRecipe)
    assert model.autoencoder.config == first.autoencoder
    assert model.unet.config == second.unet
    assert model.text.encoder.config == second.text
    assert (model.schedule, model.prediction) == (second.schedule, second.prediction)
    assert (model.defaults.steps, model.defaults.guidance) == (second.defaults.steps, second.defaults.guidance)


@pytest.mark.capability("shipped-clip")
def test_the_clip_beside_it_is_small_and_what_the_recipe_makes() -> None:
    folder = shipped_clips()["emoji-clip"]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= LARGEST_CLIP
    config, recipe = load_clip("emoji-clip").network.config, load_recipe(RECIPES / "emoji-clip.yaml")
    assert isinstance(recipe, ContrastiveRecipe)
    assert (config.text, config.vision, config.projection) == (recipe.text, recipe.vision, recipe.projection)


@pytest.mark.capability("shipped-clip")
def test_the_clip_knows_red_from_blue() -> None:
    """Of what the model paints: each caption's embedding is nearest to the picture painted for it."""
    clip, model = load_clip("emoji-clip"), latentbrush.load("emoji")
    prompts = ["red heart", "blue heart", "cat face", "pizza"]
    pictures = [generate(model, ImageRequest(prompt=prompt, sampling=Sampling(seed=0)))[0].image for prompt in prompts]
    pixels = torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture in pictures])
    assert clip.tokenizer is not None
    with torch.inference_mode():
        text = clip.network.encode_text(clip.tokenizer.encode(prompts))
        image = clip.network.encode_image(clip.pixels(pixels))
    assert (text @ image.T).argmax(0).tolist() == [0, 1, 2, 3]


@pytest.mark.capability("safe-loading")
def test_folder_holds_no_executable_formats(folder: Path) -> None:
    """Weights are safetensors; nothing that a loader would have to unpickle or run."""
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".safetensors", ".txt", ".md", ""}
