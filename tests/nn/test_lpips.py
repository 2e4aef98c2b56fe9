"""LPIPS as a network: where its layers lie, what its equation says, and the gradients that a first stage needs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from latentbrush.nn.lpips import LEAST, LPIPS, Backbone, unit_distance

pytestmark = pytest.mark.capability("lpips")


def network(backbone: Backbone) -> LPIPS:
    torch.manual_seed(0)
    made = LPIPS(backbone).double().eval()
    for convolution in made.features.values():
        torch.nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")  # pictures do not fade on the way
    for weights in made.linear:
        weights.data.uniform_(0, 1)
    return made.requires_grad_(False)


def pictures(seed: int, side: int = 33, count: int = 2) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, side, side, generator=draws, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("backbone", ["vgg16", "alexnet"])
def test_equation_1_written_out(backbone: Backbone) -> None:
    made, first, second = network(backbone), pictures(0), pictures(1)
    expected = np.zeros(2)
    for weights, a, b in zip(made.linear, made.seen(first), made.seen(second), strict=True):
        x, y = a.numpy(), b.numpy()
        x, y = (v / np.maximum(np.sqrt((v**2).sum(1, keepdims=True)), 1e-12) for v in (x, y))
        scaled = np.sqrt(weights.numpy())[None, :, None, None] * (x - y)
        expected += (scaled**2).sum((1, 2, 3)) / (x.shape[2] * x.shape[3])
    # The small number beside the squared length is 1e-8; features of these networks have lengths of about 0.1.
    np.testing.assert_allclose(made(first, second).numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "shapes"),
    [
        ("vgg16", [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2)]),
        ("alexnet", [(64, 7), (192, 3), (384, 1), (256, 1), (256, 1)]),
    ],
)
def test_five_layers_are_compared(backbone: Backbone, shapes: list[tuple[int, int]]) -> None:
    seen = list(network(backbone).seen(pictures(0, 32)))
    assert [tuple(x.shape[1:3]) for x in seen] == shapes
    assert all(float(x.min()) == 0 for x in seen)  # behind the ReLU


@pytest.mark.parametrize("backbone", ["vgg16", "alexnet"])
def test_the_same_is_at_0_and_noise_takes_it_away(backbone: Backbone) -> None:
    made, original = network(backbone), pictures(0)
    noise = pictures(2)
    distances = [made(original + share * noise, original) for share in (0.0, 0.05, 0.2, 0.8)]
    assert not distances[0].any()
    assert all((low < high).all() for low, high in pairwise(distances))
    torch.testing.assert_close(made(noise, original), made(original, noise))


def test_a_step_against_the_gradient_brings_the_picture_nearer() -> None:
    made, original = network("alexnet"), pictures(0)
    painted = pictures(1).requires_grad_()
    before = made(painted, original).sum()
    (gradient,) = torch.autograd.grad(before, painted)
    assert gradient.isfinite().all()
    assert made(painted - 1e-3 * gradient / gradient.norm(), original).sum() < before


def test_where_nothing_answers_the_gradient_is_finite() -> None:
    silent = torch.zeros(1, 4, 3, dtype=torch.float64, requires_grad=True)
    unit_distance(silent, torch.ones(1, 4, 3, dtype=torch.float64)).sum().backward()
    assert silent.grad is not None
    assert silent.grad.isfinite().all()


@pytest.mark.parametrize("loudness", [1e-5, 1.0, 1000.0])
def test_half_precision_features_are_compared_in_float32(loudness: float) -> None:
    draws = torch.Generator().manual_seed(0)
    a, b = (loudness * torch.randn(2, 8, 5, generator=draws) for _ in range(2))
    a, b = a.half(), b.half()
    found = unit_distance(a, b)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert torch.equal(found, unit_distance(a.float(), b.float()))


@pytest.mark.parametrize("backbone", ["vgg16", "alexnet"])
def test_the_least_size_works_and_less_is_refused(backbone: Backbone) -> None:
    made, least = network(backbone), LEAST[backbone]
    assert made(pictures(0, least), pictures(1, least)).isfinite().all()
    with pytest.raises(ValueError, match=f"at least {least} pixels a side"):
        made(pictures(0, least - 1), pictures(1, least - 1))
    with pytest.raises(ValueError, match="of one shape"):
        made(pictures(0, 32), pictures(1, 33))
