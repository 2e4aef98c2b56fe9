"""The contrastive loss against sums written out, its mask and its clamp."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from latentbrush.training.contrastive import MAX_LOGIT_SCALE, contrastive_loss

pytestmark = pytest.mark.capability("train-clip")


def units(count: int, width: int, seed: int) -> NDArray[np.float64]:
    vectors = np.random.default_rng(seed).normal(size=(count, width))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def reference_loss(
    text: NDArray[np.float64], image: NDArray[np.float64], scale: float, same: NDArray[np.bool_] | None = None
) -> float:
    """Pair by pair, as the sums are written on paper."""
    count = len(text)
    total = 0.0
    for i in range(count):
        others = [j for j in range(count) if j == i or same is None or not same[i, j]]
        logit = scale * float(text[i] @ image[i])
        by_text = sum(math.exp(scale * float(text[i] @ image[j])) for j in others)
        by_image = sum(math.exp(scale * float(text[j] @ image[i])) for j in others)
        total += math.log(by_text) - logit + math.log(by_image) - logit
    return total / (2 * count)


@pytest.mark.parametrize("scale", [1.0, 14.3, 99.0])
def test_loss_against_numpy(scale: float) -> None:
    text, image = units(5, 7, 0), units(5, 7, 1)
    same = np.eye(5, dtype=bool)
    same[0, 3] = same[3, 0] = same[1, 2] = same[2, 1] = True
    tensors = torch.from_numpy(text), torch.from_numpy(image), torch.tensor(math.log(scale), dtype=torch.float64)
    for mask in (None, same):
        found = contrastive_loss(*tensors, None if mask is None else torch.from_numpy(mask))
        assert float(found) == pytest.approx(reference_loss(text, image, scale, mask), rel=1e-12)
    assert reference_loss(text, image, scale) > reference_loss(text, image, scale, same)


def test_masked_pairs_are_pushed_nowhere() -> None:
    """Two pictures of one caption: neither caption feels the other's picture."""
    text, image = (torch.from_numpy(units(3, 4, seed)).requires_grad_() for seed in (0, 1))
    same = torch.eye(3, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    loss = contrastive_loss(text, image, torch.tensor(2.0), same)
    (gradient,) = torch.autograd.grad(loss, text)
    moved = image.detach().clone()
    moved[1] = torch.tensor([0.0, 0.0, 0.0, 1.0])
    (again,) = torch.autograd.grad(contrastive_loss(text, moved, torch.tensor(2.0), same), text)
    assert torch.equal(gradient[0], again[0])
    assert not torch.allclose(gradient[2], again[2])


@pytest.mark.parametrize(("logit_scale", "moves"), [(MAX_LOGIT_SCALE - 0.01, True), (MAX_LOGIT_SCALE + 0.01, False)])
def test_the_temperature_is_clamped(logit_scale: float, moves: bool) -> None:
    text, image = torch.from_numpy(units(4, 6, 0)), torch.from_numpy(units(4, 6, 1))
    parameter = torch.tensor(logit_scale, dtype=torch.float64, requires_grad=True)
    loss = contrastive_loss(text, image, parameter)
    loss.backward()  # type: ignore[no-untyped-call]
    assert parameter.grad is not None
    assert (float(parameter.grad) != 0.0) is moves
    expected = reference_loss(text.numpy(), image.numpy(), min(math.exp(logit_scale), 100.0))
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-9)
