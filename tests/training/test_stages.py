"""What each stage promises: its data, its finished model, and that it learns."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_world import SIZE, autoencoder_recipe, text_to_image_recipe

from latentbrush.data.pixels import to_signed
from latentbrush.errors import UserError
from latentbrush.formats import load_autoencoder, load_model
from latentbrush.nn import Posterior
from latentbrush.pipeline import generate
from latentbrush.request import ImageRequest, Sampling
from latentbrush.training import Run, run_recipe, train
from latentbrush.training.autoencoder import AutoencoderStage
from latentbrush.training.first_stage import augmented, reconstruction_loss
from latentbrush.training.grid import picture_grid
from latentbrush.training.loop import Stage
from latentbrush.training.recipe import AutoencoderRecipe, TextToImageRecipe
from latentbrush.training.text_to_image import TextToImageStage


def test_augmented_pictures_are_padded_with_white_and_stay_in_range() -> None:
    rng = np.random.default_rng(0)
    white = augmented(torch.ones(16, 3, 16, 16), 8, rng)
    assert white.shape == (16, 3, 8, 8)
    assert bool((white == 1.0).all())
    black = augmented(-torch.ones(64, 3, 16, 16), 8, rng)
    assert float(black.min()) >= -1.0
    assert float(black.max()) == 1.0  # crops that look beyond the picture see white, not grey
    noise = augmented(2.0 * torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 1.0, 8, rng)
    # Bilinear weights sum to 1 only to the rounding of float32.
    assert float(noise.abs().max()) <= 1.0 + 1e-6


def test_augmented_pictures_keep_their_three_colours() -> None:
    plain = torch.tensor([-0.5, 0.0, 0.75])[None, :, None, None].expand(32, 3, 16, 16)
    out = augmented(plain, 8, np.random.default_rng(0))
    # The middle lies within every crop; there the channels are the old ones in some order.
    middle = out[:, :, 3:5, 3:5].mean((2, 3))
    torch.testing.assert_close(middle.sort(1).values, torch.tensor([-0.5, 0.0, 0.75]).expand(32, 3))
    assert len({tuple(row.argsort().tolist()) for row in middle}) == 6


def test_the_reconstruction_loss_sees_edges() -> None:
    x = torch.zeros(1, 1, 4, 4)
    assert float(reconstruction_loss(x + 0.5, x, gradient=3.0)) == pytest.approx(0.5)  # a shift has no edges
    step = x.clone()
    step[..., 2:] = 1.0  # one edge in three differences along a row, none along a column
    assert float(reconstruction_loss(step, x, gradient=3.0)) == pytest.approx(0.5 + 3.0 / 3)


@pytest.mark.capability("train-autoencoder")
def test_folding_makes_latents_standard_and_keeps_the_pictures(world: Path, tmp_path: Path) -> None:
    stage = AutoencoderStage(autoencoder_recipe(world))
    x = to_signed(stage.pictures)
    with torch.no_grad():
        stage.network.quant_conv.bias += torch.tensor([3.0, -2.0, 1.0, 2.0])  # type: ignore[union-attr]
        before = stage.network.encode(x)
        pictures = stage.network.decode(before.mode())
    _, spread = statistics(before)
    assert float((before.mean.mean((0, 2, 3))).abs().min()) > 1.0  # far from standard
    assert float((spread - 1.0).abs().min()) > 0.1
    stage.finish(tmp_path)
    folded = load_autoencoder(tmp_path / "vae")
    with torch.no_grad():
        after = folded.encode(x)
        again = folded.decode(after.mode())
    mean, std = statistics(after)
    # float32: subtracting a mean of 3 leaves its rounding, a few 1e-7 of it, in each latent.
    torch.testing.assert_close(mean, torch.zeros(2), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(std, torch.ones(2), atol=1e-5, rtol=0.0)
    # The same for the decoder, whose group norms enlarge it.
    torch.testing.assert_close(again, pictures, atol=1e-4, rtol=0.0)


def statistics(posterior: Posterior) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of sampled latents, by channel: the variance is that of the means plus the mean one."""
    variance = posterior.logvar.exp().mean((0, 2, 3)) + posterior.mean.var((0, 2, 3))
    return posterior.mean.mean((0, 2, 3)), variance.sqrt()


@pytest.mark.capability("train-autoencoder")
def test_a_first_stage_opens_and_reconstructs(first_stage: Path) -> None:
    autoencoder = load_autoencoder(first_stage / "vae")
    assert autoencoder.config.factor == 2
    assert not autoencoder.training
    out = autoencoder.decode(autoencoder.encode(torch.zeros(1, 3, SIZE, SIZE)).mode())
    assert out.shape == (1, 3, SIZE, SIZE)


@pytest.mark.capability("train-text-to-image")
def test_a_text_to_image_run_leaves_a_model_that_paints(world: Path, first_stage: Path, tmp_path: Path) -> None:
    recipe = text_to_image_recipe(world, first_stage, steps=2, validate_every=1)
    run_recipe(recipe, tmp_path / "run")
    model = load_model(tmp_path / "run" / "model")
    assert (model.defaults.steps, model.defaults.guidance, model.defaults.width) == (2, 2.0, SIZE)
    assert model.prediction == "v_prediction"
    image = generate(model, ImageRequest(prompt="red block", sampling=Sampling(seed=0)))[0].image
    assert image.size == (SIZE, SIZE)
    # The first stage goes along as it was, but for half precision.
    ours, theirs = model.autoencoder.state_dict(), load_autoencoder(first_stage / "vae").state_dict()
    for key, value in theirs.items():
        assert torch.equal(ours[key], value.half().float())
    figures = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text("utf-8").splitlines()]
    assert {"validation_loss", "nearest"} <= figures[0].keys()
    assert [path.name for path in sorted((tmp_path / "run" / "samples").iterdir())] == [
        "step-000001.png",
        "step-000002.png",
    ]


@pytest.mark.capability("non-finite-steps")
def test_networks_that_are_spoilt_spoil_no_file(world: Path, first_stage: Path, tmp_path: Path) -> None:
    """Weights of 1e30 are finite, what the networks compute with them is not, nor the latents' statistics."""
    for recipe in (
        autoencoder_recipe(world, steps=8, validate_every=1, optimiser={"lr": 1e30}),
        text_to_image_recipe(world, first_stage, steps=8, validate_every=1, optimiser={"lr": 1e30}),
    ):
        directory = tmp_path / recipe.stage
        if recipe.stage == "autoencoder":
            with pytest.raises(UserError, match=r"quant_conv.weight is not finite and would spoil .*vae"):
                run_recipe(recipe, directory)
        else:
            assert "saved as float32" in str(run_recipe(recipe, directory))
        lines = [json.loads(line) for line in (directory / "log.jsonl").read_text("utf-8").splitlines()]
        validated = [line for line in lines if "psnr" in line or "nearest" in line]
        assert len(validated) == 8
        spoilt = {line["step"] for line in validated if None in line.values()}
        assert len(spoilt) > 4
        drawn = {int(path.stem.removeprefix("step-")) for path in (directory / "samples").iterdir()}
        assert drawn == set(range(1, 9)) - spoilt


@pytest.mark.capability("train-text-to-image")
def test_the_trained_pictures_are_those_of_the_train_split(world: Path, first_stage: Path) -> None:
    first = AutoencoderStage(autoencoder_recipe(world))
    assert (len(first.pictures), len(first.held_out), len(first.weights)) == (8, 3, 8)
    second = TextToImageStage(text_to_image_recipe(world, first_stage))
    assert {record.split for record in second.records} == {"train"}
    assert {record.split for record in second.held_out} == {"validation"}
    # The originals to be told apart are all thirteen, the wanted ones before them.
    assert len(second.all_pictures) == 3 + 13


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": {"path": "nowhere", "size": SIZE}}, "nowhere"),
        ({"data": {"path": "{world}", "size": 9}}, "data.size 9 is not a multiple of 2"),
        ({"first_stage": "nothing/here"}, "first stage nothing/here is not there"),
        ({"tokenizer": {"vocab_size": 600, "max_length": 8}}, "knows 5[0-9]+ tokens, the text tower 530"),
        ({"tokenizer": {"vocab_size": 530, "max_length": 16}}, "model_max_length 16 exceeds the text tower's 8"),
    ],
)
def test_what_does_not_fit_the_first_stage_is_said(
    changes: dict[str, object], said: str, world: Path, first_stage: Path
) -> None:
    data = changes.get("data")
    if isinstance(data, dict) and data["path"] == "{world}":
        changes = {"data": {**data, "path": str(world)}}
    with pytest.raises(UserError, match=said):
        TextToImageStage(text_to_image_recipe(world, first_stage, **changes))


def test_a_world_without_held_out_pictures_is_refused(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world, tmp_path / "world")
    metadata = tmp_path / "world" / "metadata.jsonl"
    lines = [line for line in metadata.read_text("utf-8").splitlines() if '"split": "train"' in line]
    metadata.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError, match="no split 'validation'"):
        AutoencoderStage(autoencoder_recipe(tmp_path / "world"))


def test_a_sheet_of_pictures_shows_every_pixel() -> None:
    red = torch.tensor([1.0, -1.0, -1.0])[:, None, None].expand(3, 8, 8)
    sheet = picture_grid(torch.stack([red, -red, red]), columns=2, side=16, gap=4)
    assert sheet.size == (2 * 20 + 4, 2 * 20 + 4)
    assert sheet.getpixel((4, 4)) == sheet.getpixel((19, 19)) == (255, 0, 0)
    assert sheet.getpixel((24, 4)) == (0, 255, 255)
    assert sheet.getpixel((4, 24)) == (255, 0, 0)
    assert sheet.getpixel((30, 30)) == sheet.getpixel((0, 0)) == (255, 255, 255)


def fixed_loss(stage: Stage) -> float:
    """The loss of one batch that training never draws."""
    stage.module.eval()
    with torch.no_grad():
        return sum(float(stage.loss(10_000 + i)) for i in range(8)) / 8


@pytest.mark.capability("train-autoencoder")
def test_the_first_stage_learns(world: Path, tmp_path: Path) -> None:
    recipe: AutoencoderRecipe = autoencoder_recipe(world, steps=60, augment=0.0, **RARELY)
    stage = AutoencoderStage(recipe)
    before = fixed_loss(stage)
    train(stage, recipe, Run(tmp_path / "run", recipe, resume=False))
    assert fixed_loss(stage) < 0.7 * before


@pytest.mark.capability("train-text-to-image")
def test_the_diffusion_model_learns(world: Path, first_stage: Path, tmp_path: Path) -> None:
    # A network that says nothing, as ours does at first, has a loss of 1 here: the variance of the noise.
    changes = {"prediction": "epsilon", "batch": 32, "optimiser": {"lr": 1e-2}}
    recipe: TextToImageRecipe = text_to_image_recipe(world, first_stage, steps=60, **changes, **RARELY)
    stage = TextToImageStage(recipe)
    before = fixed_loss(stage)
    train(stage, recipe, Run(tmp_path / "run", recipe, resume=False))
    assert before == pytest.approx(1.0, abs=0.1)
    assert fixed_loss(stage) < 0.8


RARELY = {"validate_every": 1000, "checkpoint_every": 1000}
