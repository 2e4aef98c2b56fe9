"""The first stage with vector quantisation: what moves its codebook, and what its finished model is."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import VQModel
from tiny_vq import VQ, vq_recipe, vq_values
from tiny_world import autoencoder_values, text_to_image_recipe
from torch import Tensor

from latentbrush.data.pixels import to_signed
from latentbrush.errors import UserError
from latentbrush.formats import load_vq
from latentbrush.nn import VQAutoencoder
from latentbrush.training import AutoencoderRecipe, Run, VQAutoencoderRecipe, load_recipe, run_recipe, train
from latentbrush.training.codebook import CodebookKeeper
from latentbrush.training.draws import torch_draws
from latentbrush.training.ema import EMA
from latentbrush.training.recipe import CodebookRecipe
from latentbrush.training.text_to_image import TextToImageStage
from latentbrush.training.vq import VQAutoencoderStage

pytestmark = pytest.mark.capability("train-vq")

RULES = ["learned", "ema"]


def keeper_of(size: int, **settings: Any) -> tuple[CodebookKeeper, Tensor]:
    """A keeper, and the codebook (size, 2) that it keeps, its entries on a line."""
    network = VQAutoencoder(vq_recipe(Path("nowhere"), autoencoder={**VQ, "codebook_size": size}).autoencoder)
    codebook = torch.arange(2.0 * size).view(size, 2)
    return CodebookKeeper(network, CodebookRecipe(**settings)), codebook


def test_the_moving_averages_are_those_of_the_paper() -> None:
    """Against equations 6 to 8 of VQ-VAE, written as loops."""
    keeper, codebook = keeper_of(3, rule="ema", decay=0.75)
    before = codebook.clone()
    counts, sums = [0.0] * 3, torch.zeros(3, 2)
    draws = torch.Generator().manual_seed(0)
    for step in range(4):
        latents = torch.randn(2, 2, 1, 2, generator=draws)
        indices = torch.tensor([[[0, 1]], [[1, 1]]]) if step % 2 else torch.tensor([[[0, 0]], [[0, 0]]])
        keeper.follow(codebook, latents, indices)
        for entry in range(3):
            nearest = [latents[b, :, 0, w] for b in range(2) for w in range(2) if int(indices[b, 0, w]) == entry]
            counts[entry] = 0.75 * counts[entry] + 0.25 * len(nearest)
            sums[entry] = 0.75 * sums[entry] + 0.25 * sum(nearest, torch.zeros(2))
    for entry in range(2):
        torch.testing.assert_close(codebook[entry], sums[entry] / counts[entry])
    assert torch.equal(codebook[2], before[2])  # which no latent was nearest to


def test_only_entries_idle_for_long_enough_are_replaced_by_latents_of_the_batch() -> None:
    keeper, codebook = keeper_of(4, restart_after=3)
    before, used = codebook.clone(), torch.tensor([[[0, 1]]])
    latents = torch.tensor([[[[100.0, 200.0]], [[300.0, 400.0]]]])  # (1, 2, 1, 2): the cells (100, 300), (200, 400)
    first = keeper.restart(codebook, latents, used, torch_draws(0, 0, "restart"))
    assert first.tolist() == [2, 3]  # never used: replaced at once
    assert torch.equal(codebook[:2], before[:2])
    assert sorted(codebook[2:].tolist()) == [[100.0, 300.0], [200.0, 400.0]]
    for step in range(1, 4):
        assert not len(keeper.restart(codebook, latents, used, torch_draws(0, step, "restart")))
    assert keeper.restart(codebook, latents, used, torch_draws(0, 4, "restart")).tolist() == [2, 3]


def test_no_two_entries_are_put_in_one_place() -> None:
    keeper, codebook = keeper_of(9, restart_after=5)
    latents = torch.randn(1, 2, 2, 2)
    only = torch.zeros(1, 2, 2, dtype=torch.int64)
    assert len(keeper.restart(codebook, latents, only, torch_draws(0, 0, "restart"))) == 4
    assert len(keeper.restart(codebook, latents, only, torch_draws(0, 1, "restart"))) == 4  # the others, in the next
    assert len(codebook[1:5].unique(dim=0)) == 4


def test_restarts_can_be_switched_off() -> None:
    keeper, codebook = keeper_of(4, restart_after=0)
    before = codebook.clone()
    for step in range(5):
        only = torch.zeros(1, 1, 1, dtype=torch.int64)
        assert not len(keeper.restart(codebook, torch.randn(1, 2, 1, 1), only, torch_draws(0, step, "restart")))
    assert torch.equal(codebook, before)


@pytest.mark.parametrize("rule", RULES)
def test_an_entry_is_restarted_in_the_average_too(rule: str, world: Path) -> None:
    stage = VQAutoencoderStage(vq_recipe(world, codebook={"rule": rule}))
    ema, codebook = EMA(stage.module, 0.999), stage.network.codebook.weight
    before = codebook.detach().clone()
    stage.loss(0)
    stage.settle(ema)
    moved = (codebook != before).any(1)
    restarted = stage.keeper.idle == 0
    average = next(a for a in ema.average if a.shape == codebook.shape)
    assert bool(moved.any())
    new = moved & (average == codebook).all(1)
    assert bool(new.any())
    assert bool((new <= restarted).all())
    # The average takes the others in by and by, restarted ones it has already.
    for _ in range(100):
        ema.update()
    torch.testing.assert_close(average[new], codebook.detach()[new], rtol=0.0, atol=0.0)


@pytest.mark.parametrize("rule", RULES)
def test_what_is_learned_by_gradient(rule: str, world: Path) -> None:
    stage = VQAutoencoderStage(vq_recipe(world, codebook={"rule": rule}, optimiser={"lr": 1e-3, "weight_decay": 0.1}))
    stage.loss(0).backward()  # type: ignore[no-untyped-call]
    grad = stage.network.codebook.weight.grad
    groups = stage.parameter_groups()
    given = [parameter for group in groups for parameter in group["params"]]
    assert len({id(parameter) for parameter in given}) == len(given)
    trained = {id(parameter) for parameter in stage.module.parameters() if parameter.requires_grad}
    assert {id(parameter) for parameter in given} == trained
    if rule == "ema":
        assert grad is None
        return
    assert grad is not None
    assert float(grad.abs().sum()) > 0.0
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decay[id(stage.network.codebook.weight)] == 0.0
    assert decay[id(stage.network.encoder.conv_in.weight)] == 0.1


def test_the_loss_is_the_sum_of_its_terms(world: Path) -> None:
    def loss(**changes: Any) -> float:
        with torch.no_grad():
            return float(VQAutoencoderStage(vq_recipe(world, **changes)).loss(0))

    stage = VQAutoencoderStage(vq_recipe(world))
    with torch.no_grad():
        x = stage.batch(0)
        made = stage.network.quantise(stage.network.encode(x))
        decoded = stage.network.decode_entries(made.latents)
        plain = float(stage.reconstruction(decoded, x))
        squares = float(made.commitment.mean())
    assert squares > 0.01
    assert loss() == pytest.approx(plain + 1.25 * squares, rel=1e-5)
    assert loss(commitment=2.0) == pytest.approx(plain + 3.0 * squares, rel=1e-5)
    assert loss(commitment=2.0, codebook={"rule": "ema"}) == pytest.approx(plain + 2.0 * squares, rel=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_it_learns_and_uses_its_codebook(rule: str, world: Path, tmp_path: Path) -> None:
    changes = {"steps": 80, "augment": 0.0, "validate_every": 80, "checkpoint_every": 80}
    recipe = vq_recipe(world, codebook={"rule": rule, "restart_after": 10}, **changes)
    stage = VQAutoencoderStage(recipe)
    with torch.no_grad():
        before = stage.validate()
    train(stage, recipe, Run(tmp_path / "run", recipe, resume=False))
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text("utf-8").splitlines()]
    after = lines[-1]
    assert after["step"] == 80
    assert after["psnr"] > before["psnr"] + 2.0
    # 3 held-out pictures have 48 cells.
    assert after["codes_used"] > 2 * before["codes_used"]
    assert 1.0 <= after["perplexity"] <= 40.0


def test_the_finished_model_is_the_same_with_standard_latents(world: Path, tmp_path: Path) -> None:
    stage = VQAutoencoderStage(vq_recipe(world, autoencoder={**VQ, "scaling_factor": 0.5}))
    network, x = stage.network.eval(), to_signed(stage.pictures)
    with torch.no_grad():
        network.quant_conv.bias += torch.tensor([3.0, -2.0])
        latents = network.encode(x) / 0.5
        cells = latents.permute(0, 2, 3, 1).reshape(-1, 2)
        network.codebook.weight.copy_(cells[:: len(cells) // 40][:40])
        indices, pictures = network.quantise(network.encode(x)).indices, network.decode(network.encode(x))
    stage.finish(tmp_path)
    ours = load_vq(tmp_path / "vqvae")
    with torch.no_grad():
        after = ours.encode(x)
        torch.testing.assert_close(after.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0.0)
        assert float(after.var((0, 2, 3)).mean()) == pytest.approx(1.0, abs=1e-5)
        assert torch.equal(ours.quantise(after).indices, indices)
        # float32, and group norms that enlarge its roundings.
        torch.testing.assert_close(ours.decode(after), pictures, atol=1e-4, rtol=0.0)
        theirs = VQModel.from_pretrained(tmp_path / "vqvae").eval()
        torch.testing.assert_close(theirs(x).sample, pictures, atol=1e-4, rtol=0.0)


def write(directory: Path, values: dict[str, Any]) -> Path:
    path = directory / "recipe.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")  # which is YAML
    return path


def test_a_recipe_says_its_regulariser(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, vq_values(Path("world"))))
    assert isinstance(recipe, VQAutoencoderRecipe)
    assert recipe.autoencoder.codebook_size == 40
    assert (recipe.commitment, recipe.codebook.rule) == (0.25, "learned")
    plain = load_recipe(write(tmp_path, autoencoder_values(Path("world"))))
    assert plain.model_dump()["regulariser"] == "kl"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("regulariser=gan", "regulariser 'gan' is unknown; choose one of kl, vq"),
        ("regulariser=[vq]", "regulariser ['vq'] is unknown"),
        ("regulariser=kl", "unknown key 'codebook'; known are"),
        ("kl=0.1", "unknown key 'kl'; known are"),
        ("autoencoder.codebook_size=0", "codebook_size 0 must be at least 1"),
        ("autoencoder.codebook_size=10000000", "codebook_size 10000000 is too large"),
        ("codebook.rule=both", "codebook.rule"),
        ("codebook.decay=1", "codebook.decay"),
        ("codebook.restart=1", "codebook: unknown key 'restart'"),
        ("commitment=-1", "commitment"),
        ("data.size=9", "data.size 9 is not a multiple of the autoencoder's factor 2"),
        ('perceptual_from=""', "perceptual_from: '' is no name"),
    ],
)
def test_refusals_name_key_and_value(override: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(write(tmp_path, vq_values(Path("world"))), [override])
    assert said in str(caught.value)


def test_a_run_of_one_regulariser_is_not_resumed_with_the_other(world: Path, tmp_path: Path) -> None:
    run_recipe(vq_recipe(world, steps=1), tmp_path / "run")
    plain = load_recipe(write(tmp_path, autoencoder_values(world, steps=1)))
    with pytest.raises(UserError, match="was begun with another recipe: "):
        run_recipe(plain, tmp_path / "run", resume=True)


def test_text_to_image_says_that_it_takes_another_first_stage(world: Path, tmp_path: Path) -> None:
    """Before the hours of training at whose end no folder could hold the model."""
    run_recipe(vq_recipe(world, steps=1), tmp_path / "run")
    with pytest.raises(UserError, match=r"vector quantisation, and no pipeline .* train one with KL"):
        TextToImageStage(text_to_image_recipe(world, tmp_path / "run" / "model"))


def test_the_repository_s_recipe(world: Path, tmp_path: Path) -> None:
    """Its cost is said to be that of the KL recipe: the same body, batch and steps."""
    recipes = Path(__file__).parents[2] / "recipes"
    ours, other = load_recipe(recipes / "emoji-vq-autoencoder.yaml"), load_recipe(recipes / "emoji-autoencoder.yaml")
    assert isinstance(ours, VQAutoencoderRecipe)
    assert isinstance(other, AutoencoderRecipe)
    assert replace(ours.autoencoder.body(), latent_channels=16) == other.autoencoder
    assert (ours.steps, ours.batch, ours.optimiser) == (other.steps, other.batch, other.optimiser)
    small = [f"data.path={world}", "batch=2", "steps=1", "optimiser.warmup=0"]
    run_recipe(load_recipe(recipes / "emoji-vq-autoencoder.yaml", small), tmp_path / "run")
    assert load_vq(tmp_path / "run" / "model" / "vqvae").config.codebook_size == 512
