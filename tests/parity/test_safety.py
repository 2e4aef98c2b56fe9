"""The safety checker beside diffusers' own class, on random weights whose thresholds flag some pictures and not others.

The networks in float64: 1e-9. diffusers judges what it has cast to float32 and rounded to three digits.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker, cosine_distance
from PIL import Image
from test_pictures import wanted
from tiny import randomise, save_tiny_pipeline
from tiny_clip import TEXT, VISION
from transformers import CLIPConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from latentbrush import generate, load
from latentbrush.errors import UserError
from latentbrush.formats import convert, with_safety_check
from latentbrush.formats.safety import SafetyCheck, load_safety_check

pytestmark = pytest.mark.capability("safety-check")

SIDE = VISION["image_size"]


def pictures() -> list[Image.Image]:
    """Of every proportion, and of one colour each but for some noise, so that embeddings lie apart."""
    draw, sizes = (
        np.random.default_rng(0),
        [(32, 32), (40, 24), (24, 41), (12, 12), (7, 30), (64, 64), (33, 32), (16, 90)],
    )
    made = []
    for width, height in sizes:
        colour = draw.integers(0, 256, 3)
        noise = draw.integers(-60, 60, (height, width, 3))
        made.append(Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8)))
    return made


def extractor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})


def read(images: list[Image.Image]) -> torch.Tensor:
    found: torch.Tensor = extractor()(images, return_tensors="pt").pixel_values
    return found


def checker() -> StableDiffusionSafetyChecker:
    """Thresholds at the middle of what the pictures score, so that about half of them pass each."""
    text, vision = TEXT | {"hidden_act": "quick_gelu"}, VISION | {"hidden_act": "quick_gelu"}
    made = StableDiffusionSafetyChecker(CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)).eval()
    randomise(made, 3)
    special, concepts = cosines(made, read(pictures()))
    with torch.no_grad():
        made.special_care_embeds_weights.copy_(special.median(0).values + 1e-3)
        made.concept_embeds_weights.copy_(concepts.max(0).values - 1e-3)
        made.concept_embeds_weights[1:] += 0.05
        made.concept_embeds_weights[0] = concepts[:, 0].median() + 4e-3
    return made


@torch.no_grad()
def cosines(made: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    seen = made.visual_projection(made.vision_model(pixels.to(made.concept_embeds.dtype))[1])
    return cosine_distance(seen, made.special_care_embeds), cosine_distance(seen, made.concept_embeds)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "checked"
    save_tiny_pipeline(path)
    checker().save_pretrained(path / "safety_checker")
    extractor().save_pretrained(path / "feature_extractor")
    index = json.loads((path / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (path / "model_index.json").write_text(json.dumps(index))
    return path


@pytest.fixture(scope="module")
def check(folder: Path) -> SafetyCheck:
    return load_safety_check(folder, dtype=torch.float64)


def test_pictures_are_prepared_as_transformers_does(check: SafetyCheck) -> None:
    found = check.prepared(pictures())
    assert found.dtype == torch.float64
    assert float((found - read(pictures())).abs().max()) < 1e-5  # it computes in float32


def test_cosines_scores_and_flags(folder: Path, check: SafetyCheck) -> None:
    theirs = StableDiffusionSafetyChecker.from_pretrained(folder / "safety_checker").double()
    pixels = check.prepared(pictures())
    with torch.no_grad():
        for ours, other in zip(check.network.cosines(pixels), cosines(theirs, pixels), strict=True):
            assert float((ours - other).abs().max()) < 1e-9
        scores = check.network.scores(pixels)
    images = [np.ones((4, 4, 3)) for _ in pictures()]
    blackened, flags = theirs(pixels, images)
    assert check(pictures()) == scores.flags.tolist() == flags
    assert set(flags) == {True, False}
    assert [not image.any() for image in blackened] == flags
    # A concept of special care makes the others stricter: some picture is flagged for that alone.
    first = check.network.cosines(pixels)[1] - check.network.concept_embeds_weights
    assert bool(((first.round(decimals=3) <= 0).all(1) & scores.flags).any())
    assert bool((scores.special > 0).any(1).any())


def test_what_is_flagged_becomes_black_as_in_the_pipeline(folder: Path) -> None:
    request = wanted(2, 4.0, "a blue dog", 32, 32, count=4)
    model = load(folder)
    plain = generate(model, request)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, feature_extractor=None)
    pipeline.set_progress_bar_config(disable=True)
    made = StableDiffusionSafetyChecker.from_pretrained(folder / "safety_checker")
    seen = read([one.image for one in plain])
    with torch.no_grad():  # a concept in which two of the four pictures are unlike the others, and a threshold between
        embedded = torch.nn.functional.normalize(made.visual_projection(made.vision_model(seen)[1]))
        made.concept_embeds[3] = embedded[1] + embedded[2] - embedded[0] - embedded[3]
        _, concepts = cosines(made, seen)
        low, high = concepts[:, 3].sort().values[1:3]
        assert high - low > 0.05  # pictures that differ by 1/255 are judged alike
        made.special_care_embeds_weights.fill_(2)
        made.concept_embeds_weights.fill_(2)
        made.concept_embeds_weights[3] = (low + high) / 2
    made.save_pretrained(folder / "safety_checker")
    pipeline.register_modules(safety_checker=made, feature_extractor=extractor())
    theirs = pipeline(
        [request.prompt] * 4,
        negative_prompt=["a blue dog"] * 4,
        width=32,
        height=32,
        num_inference_steps=2,
        guidance_scale=4.0,
        generator=[torch.Generator().manual_seed(i) for i in range(4)],
    )
    asked = request.model_copy(update={"model": request.model.model_copy(update={"safety_check": True})})
    with pytest.raises(UserError, match="the model was loaded without its safety checker"):
        generate(model, asked)
    ours = generate(with_safety_check(model, folder), asked)
    assert [one.flagged for one in ours] == theirs.nsfw_content_detected
    assert sum(theirs.nsfw_content_detected) == 2
    for one, other in zip(ours, theirs.images, strict=True):
        assert np.abs(np.asarray(one.image).astype(int) - np.asarray(other)).max() <= 1
        assert one.flagged == (not np.asarray(one.image).any())
    assert "safety_checker/config.json" in ours[0].record(model).model.weights
    assert [one.flagged for one in generate(model, request)] == [False] * 4


def test_models_without_one(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "one.safetensors", to="single-file")
    save_tiny_pipeline(tmp_path / "plain")
    for place in (tmp_path / "one.safetensors", tmp_path / "plain"):
        with pytest.raises(UserError, match="has no safety_checker; paint without the safety check"):
            with_safety_check(load(place), place)


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("feature_extractor/preprocessor_config.json", {"crop_size": 10}, "do not make the 12 pixels"),
        ("feature_extractor/preprocessor_config.json", {"size": {"shortest_edge": 11}}, "do not make the 12 pixels"),
        ("feature_extractor/preprocessor_config.json", {"resample": 2}, "resample 2 is not supported"),
        ("feature_extractor/preprocessor_config.json", {"image_std": [1, 0, 1]}, "three numbers above 0"),
        ("safety_checker/config.json", {"projection_dim": 21}, "shape"),
        ("safety_checker/config.json", {"model_type": "siglip"}, "model_type 'siglip' is not supported"),
    ],
)
def test_what_does_not_fit(file: str, changes: dict[str, Any], said: str, folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "copy", to="diffusers")
    path = tmp_path / "copy" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=said):
        load_safety_check(tmp_path / "copy")
