"""The moving average against its formula, and draws that are keyed by purpose and by nothing else."""

import math
from pathlib import Path

import pytest
import torch
from tiny_world import autoencoder_recipe, text_to_image_recipe
from torch import nn

from latentbrush.training.autoencoder import AutoencoderStage
from latentbrush.training.draws import numpy_draws, torch_draws, torch_seed
from latentbrush.training.ema import EMA
from latentbrush.training.text_to_image import TextToImageStage


def scalar(value: float) -> nn.Module:
    module = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(module.weight, value)
    return module


@pytest.mark.capability("ema")
@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_ema_follows_its_formula_with_warm_up(decay: float) -> None:
    module = scalar(1.0)
    ema = EMA(module, decay)
    expected = 1.0
    for s in range(12):
        weight = math.sin(s)
        nn.init.constant_(module.weight, weight)
        ema.update()
        d = min(decay, (1 + s) / (10 + s))
        expected = d * expected + (1 - d) * weight
        assert float(ema.average[0]) == pytest.approx(expected, rel=1e-12)
    assert ema.steps == 12


@pytest.mark.capability("ema")
def test_ema_forgets_the_initialisation() -> None:
    # With decay 0.999 from the first step, 200 steps would leave 82 % of it; warmed up, next to nothing.
    module = scalar(1.0)
    ema = EMA(module, 0.999)
    nn.init.constant_(module.weight, 0.0)
    for _ in range(200):
        ema.update()
    assert float(ema.average[0]) < 1e-6


@pytest.mark.capability("ema")
def test_the_scope_lends_the_average_and_gives_back_the_weights_bit_for_bit() -> None:
    torch.manual_seed(0)
    module = nn.Linear(3, 3)
    ema = EMA(module, 0.9)
    nn.init.normal_(module.weight)
    ema.update()
    own, average = module.weight.detach().clone(), ema.average[0].clone()
    assert not torch.equal(own, average)
    with ema.scope():
        assert torch.equal(module.weight, average)
    assert torch.equal(module.weight, own)
    assert torch.equal(ema.average[0], average)
    with pytest.raises(RuntimeError, match="interrupted"), ema.scope():
        raise RuntimeError("interrupted")
    assert torch.equal(module.weight, own)
    assert torch.equal(ema.average[0], average)


@pytest.mark.capability("ema")
def test_ema_is_restored_whole() -> None:
    module = scalar(2.0)
    ema = EMA(module, 0.9)
    nn.init.constant_(module.weight, 5.0)
    ema.update()
    other = EMA(scalar(0.0), 0.9)
    other.load_state_dict(ema.state_dict())
    assert other.steps == 1
    assert torch.equal(other.average[0], ema.average[0])


@pytest.mark.capability("random-keys")
def test_a_draw_depends_on_seed_step_and_purpose_only() -> None:
    keys = [(0, 0, "noise"), (1, 0, "noise"), (0, 1, "noise"), (0, 0, "batch")]
    drawn = [torch.randn(4, generator=torch_draws(*key)) for key in keys]
    counted = [numpy_draws(*key).random(4) for key in keys]
    for i in range(len(keys)):
        for j in range(i):
            assert not torch.equal(drawn[i], drawn[j])
            assert not (counted[i] == counted[j]).all()
    torch.manual_seed(5)
    for key, before, numbers in reversed(list(zip(keys, drawn, counted, strict=True))):
        assert torch.equal(torch.randn(4, generator=torch_draws(*key)), before)
        assert (numpy_draws(*key).random(4) == numbers).all()


def test_seeds_suit_torch_s_generators() -> None:
    assert all(0 <= torch_seed(seed, 7, "dropout") < 2**63 for seed in range(200))


@pytest.mark.capability("random-keys")
@pytest.mark.parametrize("kind", ["autoencoder", "text-to-image"])
def test_a_step_s_loss_does_not_depend_on_what_was_computed_before(kind: str, world: Path, first_stage: Path) -> None:
    stage: AutoencoderStage | TextToImageStage
    if kind == "autoencoder":
        stage = AutoencoderStage(autoencoder_recipe(world))
    else:
        stage = TextToImageStage(text_to_image_recipe(world, first_stage))
    stage.module.eval()  # dropout is drawn by the loop's seed, not by the stage
    with torch.no_grad():
        forward = [float(stage.loss(step)) for step in (0, 1, 2)]
        torch.randn(100)
        stage.validate()
        backward = [float(stage.loss(step)) for step in (2, 1, 0)]
    assert forward == backward[::-1]
    assert len(set(forward)) == 3
