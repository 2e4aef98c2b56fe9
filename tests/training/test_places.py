"""Where and how precisely a run computes. The meta device stands for an accelerator: it, too, refuses mixed places."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_contrastive import contrastive_recipe
from tiny_world import autoencoder_recipe, text_to_image_recipe

from latentbrush.training import run_recipe
from latentbrush.training.autoencoder import AutoencoderStage
from latentbrush.training.contrastive import ContrastiveStage
from latentbrush.training.text_to_image import TextToImageStage

pytestmark = pytest.mark.capability("training-devices")

META = torch.device("meta")


def test_the_first_stage_learns_where_it_is_told(world: Path) -> None:
    stage = AutoencoderStage(autoencoder_recipe(world, augment=0.5), META)
    loss = stage.loss(0)
    loss.backward()
    assert loss.device == META
    assert all(weight.grad is not None for weight in stage.module.parameters())


def test_clip_learns_where_it_is_told(world: Path) -> None:
    stage = ContrastiveStage(contrastive_recipe(world), META)
    loss = stage.loss(0)
    loss.backward()
    assert loss.device == META
    assert all(weight.grad is not None for weight in stage.module.parameters())


def test_text_to_image_learns_where_it_is_told(world: Path, first_stage: Path) -> None:
    stage = TextToImageStage(text_to_image_recipe(world, first_stage))
    stage.model.to(META)  # not before: the latents of all pictures are taken from a real first stage
    loss = stage.loss(0)
    loss.backward()
    assert loss.device == META
    assert all(weight.grad is not None for weight in stage.module.parameters())


@pytest.mark.capability("mixed-precision")
def test_bfloat16_is_for_products_not_for_weights(world: Path, first_stage: Path, tmp_path: Path) -> None:
    recipes = {
        "autoencoder": lambda precision: autoencoder_recipe(world, steps=1, precision=precision),
        "clip": lambda precision: contrastive_recipe(world, steps=1, precision=precision),
        "text-to-image": lambda precision: text_to_image_recipe(world, first_stage, steps=3, precision=precision),
    }
    for name, recipe in recipes.items():
        losses = {}
        for precision in ("float32", "bfloat16"):
            run = tmp_path / name / precision
            run_recipe(recipe(precision), run)
            state = torch.load(run / "checkpoint.pt", weights_only=True)
            floating = [w for w in state["module"].values() if w.is_floating_point()]
            assert {w.dtype for w in [*floating, *state["ema"]["average"]]} == {torch.float32}
            losses[precision] = _loss(run)
        # (The UNet starts at zero in any precision: it takes three steps.)
        assert losses["float32"] != losses["bfloat16"]
        # bfloat16 keeps 8 bits, that is 0.4 % of each product.
        assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)


@pytest.mark.capability("mixed-precision")
def test_the_contrast_of_half_precise_embeddings_is_taken_in_float32(world: Path) -> None:
    stage = ContrastiveStage(contrastive_recipe(world, precision="bfloat16"))
    embedded = stage._embed(["a", "b"], stage.held_out_pictures[:2])
    assert [part.dtype for part in embedded] == [torch.float32] * 2


def _loss(run: Path) -> float:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [float(line["loss"]) for line in lines if "loss" in line][-1]
