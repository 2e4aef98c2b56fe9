"""The training loop: one page, with stage, run folder and EMA as collaborators."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor, nn

from latentbrush.errors import UserError
from latentbrush.training.draws import torch_seed
from latentbrush.training.ema import EMA
from latentbrush.training.recipe import AnyRecipe, OptimiserRecipe
from latentbrush.training.run import Run

__all__ = ["Settling", "Stage", "TrainingProgress", "learning_rate", "train"]

MAX_SKIPPED = 20
"""So many non-finite steps in a row end the run: the last good weights are in the checkpoint."""


class Stage(Protocol):
    """What is trained: the loop knows of it only this."""

    @property
    def module(self) -> nn.Module:
        """Everything that learns; EMA and checkpoints cover it."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For AdamW; `lr_scale` in a group multiplies the recipe's rate."""

    def loss(self, step: int) -> Tensor:
        """The mean loss of the step's batch; all its draws are keyed by the step."""

    def validate(self) -> dict[str, float]:
        """Figures on held-out pictures, with fixed draws; not finite where the networks are not."""

    def samples(self) -> Image.Image:
        """A grid with fixed seeds, to be looked at."""

    def fingerprint(self) -> str:
        """A digest of the data; a run is resumed only on the data it began with."""

    def finish(self, directory: Path) -> str | None:
        """Write the finished model; returns what the user is to be told of it, if anything."""


@runtime_checkable
class Settling(Protocol):
    """A stage in which not all is learned by gradients."""

    def settle(self, ema: EMA) -> None:
        """Called after every step that changed the weights, before the average takes them in; what is replaced is to
        be replaced in the average, too."""


@dataclass(frozen=True)
class TrainingProgress:
    """What a watcher is told after every step: `loss` is smoothed, `rate` in samples a second."""

    step: int
    steps: int
    loss: float
    rate: float
    skipped: int
    batch: int


def learning_rate(optimiser: OptimiserRecipe, step: int, steps: int) -> float:
    """The rate at `step` (from 0) of `steps`: linear warm-up, then constant or half a cosine down to zero."""
    if step < optimiser.warmup:
        return optimiser.lr * (step + 1) / optimiser.warmup
    if optimiser.decay == "constant":
        return optimiser.lr
    done = (step - optimiser.warmup) / max(1, steps - optimiser.warmup)
    return optimiser.lr * 0.5 * (1.0 + math.cos(math.pi * done))


def train(
    stage: Stage,
    recipe: AnyRecipe,
    run: Run,
    on_step: Callable[[TrainingProgress], None] | None = None,
) -> str | None:
    """Train `stage` as `recipe` says, from the run's last checkpoint if it has one, and write the model.

    Returns what the user is to be told of the finished model, if anything; the log has it, too.
    """
    run.begin()
    module, settings = stage.module, recipe.optimiser
    optimiser = torch.optim.AdamW(
        stage.parameter_groups(),
        lr=settings.lr,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    ema = EMA(module, recipe.ema)
    data = stage.fingerprint()
    step, skipped, smooth = _restore(run, module, optimiser, ema, data), 0, math.nan
    began, first = time.monotonic(), step
    while step < recipe.steps:
        loss, norm = _update(stage, recipe, step, optimiser)
        step += 1
        if math.isfinite(loss) and math.isfinite(norm):
            if isinstance(stage, Settling):
                stage.settle(ema)
            ema.update()
            skipped, smooth = 0, loss if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss
        else:
            skipped += 1
            run.log({"step": step, "skipped": f"loss {loss}, gradient norm {norm}"})
            if skipped == MAX_SKIPPED:
                raise UserError(
                    f"{skipped} non-finite steps in a row at step {step}; begin a new run with a lower optimiser.lr"
                )
        rate = recipe.batch * (step - first) / (time.monotonic() - began)
        if not skipped and (step % 10 == 0 or step == recipe.steps):
            run.log({"step": step, "loss": loss, "grad_norm": norm, "lr": optimiser.param_groups[0]["lr"]})
        if step % recipe.validate_every == 0 or step == recipe.steps:
            _validate(stage, ema, run, step)
        if step % recipe.checkpoint_every == 0 or step == recipe.steps:
            run.save_checkpoint(_state(step, module, optimiser, ema) | {"data": data})
        if on_step is not None:
            on_step(TrainingProgress(step, recipe.steps, smooth, rate, skipped, recipe.batch))
    module.eval()
    with ema.scope():
        note = stage.finish(run.model)
    if note is not None:
        run.log({"step": step, "note": note})
    return note


def _update(stage: Stage, recipe: AnyRecipe, step: int, optimiser: torch.optim.Optimizer) -> tuple[float, float]:
    """One step of the optimiser. Returns the loss and the norm of its gradient; unless both are finite, no weight
    has changed."""
    module, settings = stage.module, recipe.optimiser
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(settings, step, recipe.steps) * group.get("lr_scale", 1.0)
    module.train()
    torch.manual_seed(torch_seed(recipe.seed, step, "dropout"))
    loss = stage.loss(step)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    norm = float(nn.utils.clip_grad_norm_(module.parameters(), settings.clip))
    value = float(loss.detach())
    if math.isfinite(value) and math.isfinite(norm):
        optimiser.step()
    optimiser.zero_grad()
    return value, norm


def _validate(stage: Stage, ema: EMA, run: Run, step: int) -> None:
    stage.module.eval()
    with ema.scope(), torch.inference_mode():
        figures = {name: value if math.isfinite(value) else None for name, value in stage.validate().items()}
        if None in figures.values():
            run.log({"step": step, **figures, "note": "no samples are drawn: a figure is not finite"})
            return
        run.log({"step": step, **figures})
        run.save_samples(step, stage.samples())


def _state(step: int, module: nn.Module, optimiser: torch.optim.Optimizer, ema: EMA) -> dict[str, Any]:
    return {
        "step": step,
        "module": module.state_dict(),
        "optimiser": optimiser.state_dict(),
        "ema": ema.state_dict(),
    }


def _restore(run: Run, module: nn.Module, optimiser: torch.optim.Optimizer, ema: EMA, data: str) -> int:
    """The step to go on from: 0 without a checkpoint. UserError if it was made on other data, or is none."""
    state = run.load_checkpoint()
    if state is None:
        run.cut_log(0)
        return 0
    try:
        if state["data"] != data:
            raise UserError(f"the data of the run {run.directory} have changed since its checkpoint; begin a new run")
        module.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
        ema.load_state_dict(state["ema"])
    except UserError:
        raise
    except Exception as error:  # a sound file of other content: torch raises whatever it meets there
        raise run.damaged() from error
    run.cut_log(state["step"])
    return int(state["step"])
