"""The loop with a stage of three weights, so that each of its promises is seen alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_world import autoencoder_recipe
from torch import Tensor, nn

from latentbrush.errors import UserError
from latentbrush.training import Run, TrainingProgress, train
from latentbrush.training.draws import torch_draws
from latentbrush.training.loop import learning_rate
from latentbrush.training.recipe import AutoencoderRecipe, OptimiserRecipe

Spoil = Callable[[Tensor, nn.Linear], Tensor]


class Line:
    """Fits a line. At the steps `bad` (from 0) its loss is spoilt."""

    def __init__(self, bad: Container[int] = (), spoil: Spoil = lambda loss, _: loss * math.nan) -> None:
        torch.manual_seed(0)
        self.network = nn.Linear(2, 1)
        self.bad, self.spoil = bad, spoil
        self.finished = False
        self.data = "points on a line"

    @property
    def module(self) -> nn.Module:
        return self.network

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": [self.network.weight]}, {"params": [self.network.bias], "lr_scale": 0.25}]

    def loss(self, step: int) -> Tensor:
        x = torch.randn(4, 2, generator=torch_draws(0, step, "x"))
        loss = (self.network(x) - x.sum(1, keepdim=True)).square().mean()
        return self.spoil(loss, self.network) if step in self.bad else loss

    def validate(self) -> dict[str, float]:
        return {"weight": float(self.network.weight.sum())}

    def samples(self) -> Image.Image:
        return Image.new("RGB", (1, 1))

    def fingerprint(self) -> str:
        return self.data

    def finish(self, directory: Path) -> None:
        self.finished = True

    def weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.network.parameters()]


def recipe(**changes: Any) -> AutoencoderRecipe:
    return autoencoder_recipe(Path("nowhere"), **changes)


def run_line(stage: Line, plan: AutoencoderRecipe, directory: Path, *, resume: bool = False) -> list[list[Tensor]]:
    """Train; the weights after every step."""
    seen: list[list[Tensor]] = []
    train(stage, plan, Run(directory, plan, resume=resume), lambda _: seen.append(stage.weights()))
    return seen


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def log_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "log.jsonl").read_text("utf-8").splitlines()]


def infinite_gradient(loss: Tensor, network: nn.Linear) -> Tensor:
    """sqrt at 0: the loss is finite, its slope is not."""
    return loss + (network.weight * 0.0).abs().sum().sqrt()


@pytest.mark.capability("non-finite-steps")
@pytest.mark.parametrize(
    "spoil",
    [lambda loss, _: loss * math.nan, lambda loss, _: loss * math.inf, infinite_gradient],
    ids=["nan", "inf", "gradient"],
)
def test_a_non_finite_step_changes_no_weight_and_is_logged(spoil: Spoil, tmp_path: Path) -> None:
    plan = recipe(steps=4)
    weights = run_line(Line({1}, spoil), plan, tmp_path)
    assert equal(weights[0], weights[1])
    assert not equal(weights[1], weights[2])
    assert all(bool(part.isfinite().all()) for part in weights[-1])
    skipped = [line for line in log_of(tmp_path) if "skipped" in line]
    assert [line["step"] for line in skipped] == [2]
    assert "loss" in skipped[0]["skipped"]
    # EMA and optimiser know of three steps, not of four.
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 4
    assert state["ema"]["steps"] == 3
    assert float(state["optimiser"]["state"][0]["step"]) == 3


@pytest.mark.capability("non-finite-steps")
def test_twenty_non_finite_steps_in_a_row_end_the_run_with_its_state_intact(tmp_path: Path) -> None:
    plan = recipe(steps=40, checkpoint_every=5)
    stage = Line(range(7, 1000))
    seen: list[list[Tensor]] = []
    skipped: list[int] = []

    def on_step(progress: TrainingProgress) -> None:
        seen.append(stage.weights())
        skipped.append(progress.skipped)

    with pytest.raises(UserError, match=r"20 non-finite steps in a row at step 27; .* lower optimiser\.lr"):
        train(stage, plan, Run(tmp_path, plan, resume=False), on_step)
    assert len(seen) == 26
    assert skipped == [0] * 7 + list(range(1, 20))
    assert not stage.finished
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert equal([state["module"]["weight"], state["module"]["bias"]], seen[6])
    assert state["ema"]["steps"] == 7
    assert len([line for line in log_of(tmp_path) if "skipped" in line]) == 20

    mended = Line()
    run_line(mended, plan, tmp_path, resume=True)
    assert mended.finished
    assert all(bool(part.isfinite().all()) for part in mended.weights())


@pytest.mark.capability("non-finite-steps")
def test_nineteen_in_a_row_do_not_end_it(tmp_path: Path) -> None:
    stage = Line([*range(1, 20), *range(21, 40)])
    run_line(stage, recipe(steps=42), tmp_path)
    assert stage.finished


@pytest.mark.capability("non-finite-steps")
@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_not_finite_does_not_end_the_run(figure: float, tmp_path: Path) -> None:
    stage, figures = Line(), [figure, 2.0]
    stage.validate = lambda: {"error": figures.pop(0), "weight": 1.0}  # type: ignore[method-assign]
    run_line(stage, recipe(steps=2, validate_every=1), tmp_path)
    assert stage.finished
    first, _, second = log_of(tmp_path)
    note = "no samples are drawn: a figure is not finite"
    assert first == {"step": 1, "error": None, "weight": 1.0, "note": note}
    assert second == {"step": 2, "error": 2.0, "weight": 1.0}
    # What spoils a figure would spoil a picture.
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["step-000002.png"]


@pytest.mark.capability("resume")
def test_resuming_on_other_data_is_refused(tmp_path: Path) -> None:
    plan = recipe(steps=2)
    run_line(Line(), plan, tmp_path)
    stage = Line()
    stage.data = "points on a circle"
    with pytest.raises(UserError, match="have changed since its checkpoint"):
        run_line(stage, plan, tmp_path, resume=True)
    assert not stage.finished


@pytest.mark.capability("ema")
def test_the_finished_model_is_the_average_and_the_weights_come_back(tmp_path: Path) -> None:
    plan = recipe(steps=5)
    stage = Line()
    handed: list[Tensor] = []
    stage.finish = lambda directory: handed.extend(stage.weights())  # type: ignore[method-assign]
    last = run_line(stage, plan, tmp_path)[-1]
    average = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["ema"]["average"]
    assert equal(handed, average)
    assert not equal(handed, last)
    assert equal(stage.weights(), last)


def test_a_group_s_scale_multiplies_the_rate(tmp_path: Path) -> None:
    plan = recipe(steps=3, optimiser={"lr": 0.1, "decay": "constant"})
    run_line(Line(), plan, tmp_path)
    groups = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["optimiser"]["param_groups"]
    assert [group["lr"] for group in groups] == [0.1, 0.025]


def test_learning_rate_warms_up_and_falls_by_half_a_cosine() -> None:
    plan = OptimiserRecipe(lr=2.0, warmup=4)
    assert [learning_rate(plan, step, 104) for step in range(4)] == [0.5, 1.0, 1.5, 2.0]
    assert learning_rate(plan, 4, 104) == 2.0
    assert learning_rate(plan, 54, 104) == pytest.approx(1.0)  # halfway, cos = 0
    assert learning_rate(plan, 79, 104) == pytest.approx(1.0 - math.sqrt(0.5))  # three quarters, cos = -sqrt(1/2)
    assert learning_rate(plan, 104, 104) == pytest.approx(0.0, abs=1e-12)
    falling = [learning_rate(plan, step, 104) for step in range(4, 105)]
    assert falling == sorted(falling, reverse=True)


def test_learning_rate_without_warm_up_or_decay() -> None:
    assert learning_rate(OptimiserRecipe(lr=2.0), 0, 1) == 2.0
    constant = OptimiserRecipe(lr=2.0, warmup=2, decay="constant")
    assert [learning_rate(constant, step, 10) for step in (0, 1, 2, 9)] == [1.0, 2.0, 2.0, 2.0]
    # A run that ends within its warm-up never divides by zero.
    assert learning_rate(OptimiserRecipe(lr=2.0, warmup=10), 9, 10) == 2.0
