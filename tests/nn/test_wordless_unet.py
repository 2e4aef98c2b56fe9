"""What the UNet without words refuses, says the numbers; and what it is at first."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from latentbrush.nn import Condition, PixelConfig, Pixels, Posterior, UNet2D, UNet2DConfig, posterior_of

pytestmark = pytest.mark.capability("unet-without-words")

TINY: dict[str, Any] = {
    "sample_size": 4,
    "channels": (8, 8),
    "layers_per_block": 1,
    "attention": (False, True),
    "groups": 4,
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attention": (True,)}, r"UNet attention \(True,\) has 1 entries for 2 levels"),
        ({"residual": (True,) * 3}, "UNet residual .* has 3 entries for 2 levels"),
        ({"groups": 3}, "8 channels are not divisible by 3 norm groups"),
        ({"mid_groups": 5}, "8 channels are not divisible by 5 norm groups"),
        ({"head_width": 3}, "8 UNet channels are not divisible by the head width 3"),
        ({"head_width": 0}, "8 UNet channels are not divisible by the head width 0"),
        ({"classes": 0}, "UNet classes 0 must be at least 1"),
        ({"sample_size": 0}, "UNet sample_size 0 must be at least 1"),
        ({"dropout": 1.0}, r"UNet dropout 1.0 must lie in \[0, 1\)"),
    ],
)
def test_configurations_that_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        UNet2DConfig(**(TINY | changes))


def ask(unet: UNet2D, shape: tuple[int, ...] = (2, 3, 4, 4), **condition: Any) -> torch.Tensor:
    given = {"context": torch.empty(2, 0, 0)} | condition
    out: torch.Tensor = unet(torch.zeros(shape), torch.zeros(2), Condition(**given))
    return out


def test_what_it_does_not_take() -> None:
    unet = UNet2D(UNet2DConfig(**TINY))
    with pytest.raises(ValueError, match=r"takes \(B, 3, h, w\), not \(2, 4, 4, 4\)"):
        ask(unet, (2, 4, 4, 4))
    with pytest.raises(ValueError, match=r"at least 2 a side, not \(4, 1\)"):
        ask(unet, (2, 3, 4, 1))
    with pytest.raises(ValueError, match="was given a context"):
        ask(unet, context=torch.zeros(2, 1, 5))
    with pytest.raises(ValueError, match="was given pooled"):
        ask(unet, pooled=torch.zeros(2, 5))
    with pytest.raises(ValueError, match="has no classes, but was given 2 labels"):
        ask(unet, classes=torch.tensor([0, 1]))
    classes = UNet2D(UNet2DConfig(**TINY, classes=3))
    with pytest.raises(ValueError, match="has 3 classes, but was given no labels"):
        ask(classes)
    with pytest.raises(ValueError, match="labels from 0 to 3 are out of range: the UNet has 0 to 2"):
        ask(classes, classes=torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r"one time a sample, \(2,\), not \(3,\)"):
        unet(torch.zeros(2, 3, 4, 4), torch.zeros(3), Condition(torch.empty(2, 0, 0)))


def test_it_starts_as_zero() -> None:
    assert not ask(UNet2D(UNet2DConfig(**TINY)), (2, 3, 6, 4)).any()


@pytest.mark.parametrize("changes", [{}, {"symmetric": True}, {"symmetric": True, "residual": (True, False, False)}])
def test_every_size_it_says_that_it_takes(changes: dict[str, Any]) -> None:
    """Halving rounds one way or the other; the way up follows."""
    unet = UNet2D(UNet2DConfig(**(TINY | {"channels": (8, 8, 8), "attention": (False,) * 3} | changes)))
    least = unet.config.least_side
    assert least == (1 if changes == {"symmetric": True} else 4)
    for side in range(least, 10):
        assert ask(unet, (2, 3, side, least)).shape == (2, 3, side, least)


def test_pixels_are_their_own_latents() -> None:
    stage, x = Pixels(PixelConfig()), torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(stage.decode(stage.encode(x)), x)
    posterior = posterior_of(stage, x)
    # No draw moves it, and its spread is 0, not small.
    assert posterior.certain
    assert torch.equal(posterior.at(torch.full_like(x, 1e30)), x)
    assert torch.equal(posterior.mode(), x)
    assert not posterior.std.any()
    assert torch.equal(Posterior(x, torch.zeros_like(x)).std, torch.ones_like(x))
    for wrong in (torch.zeros(1, 4, 8, 8), torch.zeros(3, 8, 8)):
        with pytest.raises(ValueError, match=r"cannot be encoded: need \(B, 3, H, W\)"):
            stage.encode(wrong)
        with pytest.raises(ValueError, match=r"cannot be decoded: need \(B, 3, h, w\)"):
            stage.decode(wrong)
