"""Guidance: what is asked of the network, how often, and what is made of it."""

import math

import pytest
import torch

from latentbrush.diffusion import ClassifierFree, Level, Rescaled, guided
from latentbrush.errors import UserError
from latentbrush.nn.condition import Condition

pytestmark = pytest.mark.capability("classifier-free-guidance")

LEVEL = Level(0.6, 0.8, 321.0)
B = 3


class Network:
    """Linear in the condition; keeps what it was asked."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, condition, /):
        self.calls.append((x, t, condition))
        return x + condition.context.mean((1, 2)).reshape(-1, 1, 1, 1)


def condition(value):
    return Condition(torch.full((B, 2, 5), value) + torch.arange(B).reshape(B, 1, 1))


def picture():
    return torch.randn(B, 4, 6, 6, generator=torch.Generator().manual_seed(0))


def test_weight_one_is_the_network_itself_in_one_call_of_the_batch():
    network, x, wanted = Network(), picture(), condition(1.0)
    out = guided(network, wanted, [ClassifierFree(condition(9.0), 1.0)])(x, LEVEL)
    ((seen, t, asked),) = network.calls
    assert seen is x
    assert asked is wanted
    assert (t.shape, t.dtype, t.tolist()) == ((B,), torch.float32, [321.0] * B)
    assert torch.equal(out, x + condition(1.0).context.mean((1, 2)).reshape(-1, 1, 1, 1))


@pytest.mark.parametrize("weight", [0.0, 0.5, 7.5, -1.0])
def test_any_other_weight_is_one_call_of_twice_the_batch(weight):
    network, x = Network(), picture()
    wanted, negative = condition(1.0), condition(-2.0)
    out = guided(network, wanted, [ClassifierFree(negative, weight)])(x, LEVEL)
    ((seen, t, asked),) = network.calls
    assert torch.equal(seen, torch.cat([x, x]))
    assert t.tolist() == [321.0] * 2 * B
    # the negative comes first, as in diffusers' pipelines
    assert torch.equal(asked.context, torch.cat([negative.context, wanted.context]))
    u, c = Network()(x, t, negative), Network()(x, t, wanted)
    assert torch.equal(out, u + weight * (c - u))


class Shift:
    """A method without branches that reads what the network said under the condition itself."""

    def branches(self, level):
        return {}

    def combine(self, out, outputs):
        return out * 2 - outputs["condition"]


def test_methods_are_folded_in_order():
    x, wanted, negative = picture(), condition(1.0), condition(0.0)
    free = ClassifierFree(negative, 3.0)
    t = torch.zeros(B)
    u, c = Network()(x, t, negative), Network()(x, t, wanted)
    g = u + 3.0 * (c - u)
    assert torch.equal(guided(Network(), wanted, [free, Shift()])(x, LEVEL), g * 2 - c)
    assert torch.equal(guided(Network(), wanted, [Shift(), free])(x, LEVEL), u + 3.0 * ((c * 2 - c) - u))


@pytest.mark.capability("guidance-rescale")
@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_rescaled_guidance_has_the_spread_of_the_condition_alone(share):
    x, wanted, free = picture(), condition(1.0), ClassifierFree(condition(0.0), 3.0)

    def network(x, t, condition, /):
        return torch.sin(3 * x) * (1 + condition.context.mean((1, 2)).reshape(-1, 1, 1, 1))

    t = torch.zeros(B)
    plain = guided(network, wanted, [free])(x, LEVEL)
    out = guided(network, wanted, [free, Rescaled(share)])(x, LEVEL)
    spread = network(x, t, wanted).std((1, 2, 3)) / plain.std((1, 2, 3))
    expected = plain * (share * spread + 1 - share).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)  # float32
    assert float((out - plain).abs().max()) > 0.1 or share == 0
    flat = {"condition": torch.zeros(1, 4, 2, 2)}
    assert torch.equal(Rescaled(1.0).combine(torch.ones(1, 4, 2, 2), flat), torch.ones(1, 4, 2, 2))
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(UserError, match=f"guidance rescale is {wrong}"):
            Rescaled(wrong)


def test_a_method_may_ask_at_some_levels_only():
    class Early(ClassifierFree):
        def branches(self, level):
            return super().branches(level) if level.t > 500 else {}

        def combine(self, out, outputs):
            return super().combine(out, outputs) if "negative" in outputs else out

    network = Network()
    predict = guided(network, condition(1.0), [Early(condition(0.0), 2.0)])
    predict(picture(), Level(0.1, 0.9, 900.0))
    predict(picture(), Level(0.9, 0.1, 100.0))
    assert [x.shape[0] for x, *_ in network.calls] == [2 * B, B]


def test_in_training_every_sample_has_its_own_time():
    network = Network()
    guided(network, condition(1.0))(picture(), Level(torch.ones(B, 1, 1, 1), 0.0, torch.tensor([5, 6, 7])))
    assert network.calls[0][1].tolist() == [5.0, 6.0, 7.0]


def test_what_guidance_refuses():
    for weight in (math.nan, math.inf, -math.inf):
        with pytest.raises(UserError, match=str(weight)):
            ClassifierFree(condition(0.0), weight)
    twice = [ClassifierFree(condition(0.0), 2.0)] * 2
    with pytest.raises(ValueError, match="'negative'"):
        guided(Network(), condition(1.0), twice)(picture(), LEVEL)
    with pytest.raises(ValueError, match="finished"):
        guided(Network(), condition(1.0))(picture(), Level(1.0, 0.0))
    with pytest.raises(ValueError, match=r"'condition' has conditions for 3 pictures, x has 1"):
        guided(Network(), condition(1.0))(picture()[:1], LEVEL)
