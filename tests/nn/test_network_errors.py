"""Every refusal of the networks says the numbers that do not fit; and what the networks are at first."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from latentbrush.nn import (
    AutoencoderConfig,
    AutoencoderKL,
    CLIPTextConfig,
    CLIPTextModel,
    Condition,
    Posterior,
    UNet,
    UNetConfig,
)
from latentbrush.nn.attention import Attention

TINY_UNET: dict[str, Any] = {
    "sample_size": 4,
    "channels": (8, 16),
    "layers_per_block": 1,
    "attention": (True, False),
    "heads": (2, 4),
    "depth": (1, 1),
    "context_width": 6,
    "groups": 4,
}
TINY_AUTOENCODER: dict[str, Any] = {"channels": (8, 8, 8), "layers_per_block": 1, "groups": 4, "scaling_factor": 0.5}
TINY_TEXT: dict[str, Any] = {
    "vocab_size": 20,
    "width": 8,
    "layers": 1,
    "heads": 2,
    "mlp_width": 8,
    "max_positions": 5,
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channels": ()}, r"channels \(\) and norm groups 4 must be positive"),
        ({"channels": (8, 0)}, r"channels \(8, 0\)"),
        ({"groups": 0}, r"norm groups 0 must be positive"),
        ({"groups": 3}, r"8 channels are not divisible by 3 norm groups"),
        ({"attention": (True,)}, r"attention \(True,\) has 1 entries for 2 levels"),
        ({"heads": (2, 4, 8)}, r"heads \(2, 4, 8\) has 3 entries for 2 levels"),
        ({"depth": (1,)}, r"depth \(1,\) has 1 entries for 2 levels"),
        ({"heads": (2, 3)}, r"16 UNet channels are not divisible by 3 attention heads"),
        ({"heads": (0, 4)}, r"8 UNet channels are not divisible by 0 attention heads"),
        ({"sample_size": 0}, r"sample_size 0 must be at least 1"),
        ({"in_channels": 0}, r"in_channels 0 must"),
        ({"out_channels": -4}, r"out_channels -4 must"),
        ({"layers_per_block": 0}, r"layers_per_block 0 must"),
        ({"context_width": 0}, r"context_width 0 must"),
        ({"depth": (1, 0)}, r"depth \(1, 0\) must be at least 1 a level"),
        ({"dropout": 1.0}, r"dropout 1\.0 must lie in \[0, 1\)"),
        ({"dropout": -0.1}, r"dropout -0\.1 must"),
        ({"dropout": float("nan")}, r"dropout nan must"),
    ],
)
def test_a_unet_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        UNetConfig(**TINY_UNET | changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channels": ()}, r"channels \(\) and norm groups 4"),
        ({"groups": 3}, r"8 channels are not divisible by 3 norm groups"),
        ({"latent_channels": 0}, r"latent_channels 0 must be at least 1"),
        ({"layers_per_block": 0}, r"layers_per_block 0 must"),
        ({"in_channels": -3}, r"in_channels -3 must"),
        ({"sample_size": 0}, r"sample_size 0 must"),
        ({"scaling_factor": 0.0}, r"scaling_factor 0\.0 must be finite and above 0"),
        ({"scaling_factor": -1.0}, r"scaling_factor -1\.0 must"),
        ({"scaling_factor": float("inf")}, r"scaling_factor inf must"),
        ({"scaling_factor": float("nan")}, r"scaling_factor nan must"),
    ],
)
def test_an_autoencoder_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AutoencoderConfig(**TINY_AUTOENCODER | changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        *(({name: 0}, f"{name} 0 must be at least 1") for name in TINY_TEXT),
        ({"heads": 3}, r"width 8 is not divisible by its 3 heads"),
        ({"activation": "relu"}, r"activation 'relu' is unknown: quick_gelu or gelu"),
        ({"dropout": 1.0}, r"dropout 1\.0 must lie in \[0, 1\)"),
    ],
)
def test_a_text_tower_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CLIPTextConfig(**TINY_TEXT | changes)


def test_attention_refuses_heads_that_do_not_divide_it() -> None:
    with pytest.raises(ValueError, match="attention width 8 is not divisible by its 3 heads"):
        Attention(8, 3)


@pytest.mark.parametrize(
    ("x", "t", "context", "said"),
    [
        ((2, 3, 4, 4), (2,), (2, 5, 6), r"\(B, 4, h, w\), not \(2, 3, 4, 4\)"),
        ((2, 4, 4), (2,), (2, 5, 6), r"\(B, 4, h, w\), not \(2, 4, 4\)"),
        ((2, 4, 4, 4), (1,), (2, 5, 6), r"one time a sample, \(2,\), not \(1,\)"),
        ((2, 4, 4, 4), (), (2, 5, 6), r"one time a sample, \(2,\), not \(\)"),
        ((2, 4, 4, 4), (2,), (1, 5, 6), r"context \(2, n, 6\), not \(1, 5, 6\)"),
        ((2, 4, 4, 4), (2,), (2, 5, 7), r"context \(2, n, 6\), not \(2, 5, 7\)"),
        ((2, 4, 4, 4), (2,), (2, 6), r"context \(2, n, 6\), not \(2, 6\)"),
    ],
)
def test_the_unet_refuses_other_shapes(
    x: tuple[int, ...], t: tuple[int, ...], context: tuple[int, ...], said: str
) -> None:
    unet = UNet(UNetConfig(**TINY_UNET))
    with pytest.raises(ValueError, match=said):
        unet(torch.zeros(x), torch.zeros(t), Condition(torch.zeros(context)))


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (3, 8, 8), (1, 3, 8, 9), (1, 3, 6, 8), (0, 3, 8, 8), (1, 3, 0, 8)])
def test_the_autoencoder_refuses_pictures_it_cannot_halve(shape: tuple[int, ...]) -> None:
    autoencoder = AutoencoderKL(AutoencoderConfig(**TINY_AUTOENCODER))
    with pytest.raises(ValueError, match=r"need \(B, 3, H, W\), 4 \| H, W") as caught:
        autoencoder.encode(torch.zeros(shape))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 3, 2, 2), (4, 2, 2)])
def test_the_autoencoder_refuses_foreign_latents(shape: tuple[int, ...]) -> None:
    autoencoder = AutoencoderKL(AutoencoderConfig(**TINY_AUTOENCODER))
    with pytest.raises(ValueError, match=r"need \(B, 4, h, w\)") as caught:
        autoencoder.decode(torch.zeros(shape))
    assert str(shape) in str(caught.value)


def test_statistics_need_the_convolutions_they_go_into() -> None:
    autoencoder = AutoencoderKL(AutoencoderConfig(**TINY_AUTOENCODER, quant_convs=False))
    with pytest.raises(ValueError, match="without quant_convs"):
        autoencoder.fold_statistics(torch.zeros(4), torch.ones(4))


@pytest.mark.parametrize("shape", [(1, 6), (5,), (1, 1, 5)])
def test_the_text_tower_refuses_more_tokens_than_it_has_places(shape: tuple[int, ...]) -> None:
    tower = CLIPTextModel(CLIPTextConfig(**TINY_TEXT))
    with pytest.raises(ValueError, match=r"tokens \(B, n\), n up to 5, not") as caught:
        tower(torch.zeros(shape, dtype=torch.int64))
    assert str(shape) in str(caught.value)


def test_conditions_of_unlike_shapes_do_not_join() -> None:
    joined = Condition.cat([Condition(torch.zeros(1, 5, 6)), Condition(torch.ones(2, 5, 6))])
    assert joined.context[:, 0, 0].tolist() == [0.0, 1.0, 1.0]
    with pytest.raises(ValueError, match=r"\[\(5, 6\), \(7, 6\)\]"):
        Condition.cat([Condition(torch.zeros(1, 5, 6)), Condition(torch.zeros(1, 7, 6))])


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (1, 1)])
def test_the_unet_is_the_zero_function_at_first(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    unet = UNet(UNetConfig(**TINY_UNET))
    x, t, condition = torch.randn(2, 4, *size), torch.tensor([0.0, 999.0]), Condition(torch.randn(2, 5, 6))
    out = unet(x, t, condition)
    assert out.shape == x.shape
    assert not out.any()
    # All of it must still learn: the output's weights have a gradient at once.
    (out - 1.0).square().mean().backward()
    assert unet.conv_out.weight.grad is not None
    assert bool(unet.conv_out.weight.grad.any())


def posterior() -> Posterior:
    generator = torch.Generator().manual_seed(0)
    mean, logvar = torch.randn(2, 3, 4, 5, 6, generator=generator, dtype=torch.float64)
    return Posterior(mean, logvar)


def test_kl_is_that_of_two_gaussians() -> None:
    q = posterior()
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(q.mean, (0.5 * q.logvar).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    assert q.kl().shape == (3,)
    torch.testing.assert_close(q.kl(), theirs.sum((1, 2, 3)), rtol=1e-12, atol=0.0)
    standard = Posterior(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2))
    assert standard.kl().tolist() == [0.0]
    # One latent of mean 1 and variance e: (1 + e - 1 - 1) / 2.
    one = Posterior(torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, 1, dtype=torch.float64))
    assert float(one.kl()) == pytest.approx((torch.e - 1.0) / 2, rel=1e-12)


def test_mode_and_sample() -> None:
    q = posterior()
    assert torch.equal(q.mode(), q.mean)
    noise = torch.randn(q.mean.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    drawn = q.sample(torch.Generator().manual_seed(7))
    torch.testing.assert_close(drawn, q.mean + q.logvar.exp().sqrt() * noise, rtol=1e-12, atol=1e-12)
    assert torch.equal(q.sample(torch.Generator().manual_seed(7)), drawn)
    assert not torch.equal(q.sample(torch.Generator().manual_seed(8)), drawn)
    certain = Posterior(q.mean, torch.full_like(q.mean, -torch.inf))
    assert torch.equal(certain.sample(), q.mean)


def test_a_sample_s_gradient_reaches_mean_and_variance() -> None:
    q = posterior()
    mean, logvar = q.mean.requires_grad_(), q.logvar.requires_grad_()
    Posterior(mean, logvar).sample(torch.Generator().manual_seed(0)).sum().backward()
    assert mean.grad is not None
    assert torch.equal(mean.grad, torch.ones_like(mean))
    assert logvar.grad is not None
    assert bool(logvar.grad.any())


def test_the_scaling_factor_scales_latents_and_their_spread() -> None:
    torch.manual_seed(0)
    half = AutoencoderKL(AutoencoderConfig(**TINY_AUTOENCODER)).double()
    whole = AutoencoderKL(AutoencoderConfig(**TINY_AUTOENCODER | {"scaling_factor": 1.0})).double()
    whole.load_state_dict(half.state_dict())
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        scaled, plain = half.encode(x), whole.encode(x)
        torch.testing.assert_close(scaled.mean, 0.5 * plain.mean)
        torch.testing.assert_close(scaled.logvar.exp(), 0.25 * plain.logvar.exp())
        torch.testing.assert_close(half.decode(scaled.mode()), whole.decode(plain.mode()))
