"""Guidance: further branches of the network, and how their outputs change what it says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from latentbrush.diffusion.denoiser import Predict
from latentbrush.diffusion.level import Level
from latentbrush.errors import UserError
from latentbrush.nn.condition import Condition

__all__ = ["CONDITION", "ClassifierFree", "Guidance", "Network", "Rescaled", "guided"]

CONDITION = "condition"
"""The name of the branch that is always there: what the user asked for."""


class Network(Protocol):
    """x (B, c, h, w) of unit variance, t (B,), condition of B -> raw output (B, c, h, w)."""

    def __call__(self, x: Tensor, t: Tensor, condition: Condition, /) -> Tensor: ...


class Guidance(Protocol):
    """A method of guidance. Methods are folded in order, each changing the output of the one before."""

    def branches(self, level: Level) -> dict[str, Condition]:
        """The conditions, each of the whole batch, under which the network is also to be asked at `level`."""
        ...

    def combine(self, out: Tensor, outputs: Mapping[str, Tensor]) -> Tensor:
        """The new output (B, c, h, w), from `out` so far and the outputs of all branches by name."""
        ...


@dataclass(frozen=True)
class ClassifierFree:
    """Classifier-free guidance (Ho & Salimans 2022, eq. 6, in the form u + weight * (c - u)).

    `negative`: the condition to move away from, of B: the empty prompt or a negative one.
    `weight`: finite; 1 is the network as it is, and costs no branch. Raises `UserError` otherwise.
    """

    negative: Condition
    weight: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise UserError(f"guidance weight is {self.weight}; choose a finite number, 1 for no guidance")

    def branches(self, level: Level) -> dict[str, Condition]:
        return {} if self.weight == 1 else {"negative": self.negative}

    def combine(self, out: Tensor, outputs: Mapping[str, Tensor]) -> Tensor:
        if self.weight == 1:
            return out
        u = outputs["negative"]
        return u + self.weight * (out - u)


@dataclass(frozen=True)
class Rescaled:
    """Rescaled guidance (Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps are Flawed", eq. 15, 16).

    The last of the methods; it asks nothing.

    What was guided gets, over each picture, the standard deviation of the output under the condition alone, and is
    mixed with `share` of that; `share` in [0, 1], 0 for none. Raises `UserError` otherwise.
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UserError(f"guidance rescale is {self.share}; choose a number from 0 (none) to 1, 0.7 as published")

    def branches(self, level: Level) -> dict[str, Condition]:
        return {}

    def combine(self, out: Tensor, outputs: Mapping[str, Tensor]) -> Tensor:
        wanted = outputs[CONDITION].flatten(1).std(1)
        found = out.flatten(1).std(1)
        # Where an output is flat there is nothing to rescale.
        ratio = torch.where(found > 0, wanted / found, 1.0).reshape(-1, 1, 1, 1)
        return out * (self.share * ratio + (1 - self.share))


def guided(network: Network, condition: Condition, methods: Sequence[Guidance] = ()) -> Predict:
    """The network under `condition` and all `methods`, as a `Denoiser` wants it.

    All branches are evaluated in one call, the methods' first and the condition last (the order of
    diffusers' pipelines: kernels may round by position); one branch alone is passed on uncopied.
    """

    def predict(x: Tensor, level: Level) -> Tensor:
        branches = _all_branches(condition, methods, level)
        _require_batch(branches, x)
        t = _times(level, x)
        count = len(branches)
        if count == 1:
            return _fold(methods, {CONDITION: network(x, t, condition)})
        joined = network(torch.cat([x] * count), t.repeat(count), Condition.cat(list(branches.values())))
        return _fold(methods, dict(zip(branches, joined.chunk(count), strict=True)))

    return predict


def _all_branches(condition: Condition, methods: Sequence[Guidance], level: Level) -> dict[str, Condition]:
    branches: dict[str, Condition] = {}
    for method in methods:
        for name, branch in method.branches(level).items():
            if name in branches or name == CONDITION:
                raise ValueError(f"two methods of guidance ask for a branch named {name!r}; use one of them")
            branches[name] = branch
    return branches | {CONDITION: condition}


def _require_batch(branches: Mapping[str, Condition], x: Tensor) -> None:
    # Attention would broadcast a single condition, right for one branch and wrong for two.
    for name, branch in branches.items():
        if branch.context.shape[0] != x.shape[0]:
            raise ValueError(
                f"branch {name!r} has conditions for {branch.context.shape[0]} pictures, x has {x.shape[0]}"
            )


def _fold(methods: Sequence[Guidance], outputs: Mapping[str, Tensor]) -> Tensor:
    out = outputs[CONDITION]
    for method in methods:
        out = method.combine(out, outputs)
    return out


def _times(level: Level, x: Tensor) -> Tensor:
    """(B,) float32 on x's device; B times one t in sampling, a t for each sample in training."""
    if level.t is None:
        raise ValueError("the network was asked about a finished level, which has no t")
    return torch.as_tensor(level.t, dtype=torch.float32, device=x.device).expand(x.shape[0])
