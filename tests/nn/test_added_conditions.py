"""Pooled text, numbers and channels beside the words: what does not fit is refused with the numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from latentbrush.conditioning import MicroNumbers, count_micro, find_task
from latentbrush.errors import UserError
from latentbrush.nn import CLIPTextConfig, Condition, ProjectedTextConfig, UNet, UNetConfig

pytestmark = pytest.mark.capability("stable-diffusion-xl")

TINY: dict[str, Any] = {
    "sample_size": 4,
    "in_channels": 7,
    "channels": (8, 16),
    "layers_per_block": 1,
    "attention": (True, False),
    "heads": (2, 4),
    "depth": (1, 1),
    "context_width": 6,
    "groups": 4,
    "added_width": 20,
    "micro_width": 4,
}
FITTING = Condition(
    torch.zeros(2, 5, 6), pooled=torch.zeros(2, 12), micro=torch.zeros(2, 2), channels=torch.zeros(2, 3, 4, 4)
)


def ask(condition: Condition, config: UNetConfig | None = None) -> Tensor:
    torch.manual_seed(0)
    unet = UNet(UNetConfig(**TINY) if config is None else config)
    for parameter in unet.parameters():  # its output is zero at first
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    with torch.no_grad():
        out: Tensor = unet.eval()(torch.zeros(2, 4, 4, 4), torch.zeros(2), condition)
    return out


@pytest.mark.parametrize("part", ["pooled", "micro", "channels"])
def test_each_part_changes_the_output_of_its_own_picture_alone(part: str) -> None:
    before, value = ask(FITTING), getattr(FITTING, part).clone()
    value[1] += 3.0
    after = ask(replace(FITTING, **{part: value}))
    assert torch.equal(before[0], after[0])
    assert (before[1] - after[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pooled": None}, r"wants pooled text and micro numbers, but was given \['micro'\]"),
        ({"pooled": None, "micro": None}, "but was given neither"),
        ({"pooled": torch.zeros(2, 11)}, "width 11 and 2 numbers of width 4 make 19, but the UNet takes 20"),
        ({"micro": torch.zeros(2, 3)}, "width 12 and 3 numbers of width 4 make 24, but the UNet takes 20"),
        ({"channels": None}, r"\(B, 7, h, w\), not \(2, 4, 4, 4\)"),
        ({"channels": torch.zeros(2, 2, 4, 4)}, r"\(B, 7, h, w\), not \(2, 4, 4, 4\) with 2 of a condition"),
        ({"channels": torch.zeros(2, 3, 4, 5)}, r"\(4, 5\) high and wide, the picture is \(4, 4\)"),
    ],
)
def test_what_does_not_fit_the_unet(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ask(replace(FITTING, **changes))


def test_a_unet_that_adds_nothing_is_given_nothing() -> None:
    with pytest.raises(ValueError, match="adds nothing to its time, but was given pooled and micro"):
        ask(FITTING, UNetConfig(**TINY | {"added_width": None}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"added_width": 4}, "added_width 4 must exceed the 4 of one number"),
        ({"micro_width": 3}, "micro_width 3 must be even"),
        ({"micro_width": 0}, "micro_width 0 must be even"),
    ],
)
def test_unets_that_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        UNetConfig(**TINY | changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pooled": torch.zeros(3, 12)}, r"pooled \(3, 12\) must have 2 dimensions, the first as the .* batch of 2"),
        ({"micro": torch.zeros(2)}, r"micro \(2,\) must have 2"),
        ({"channels": torch.zeros(2, 4, 4)}, r"channels \(2, 4, 4\) must have 4"),
    ],
)
def test_conditions_that_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(FITTING, **changes)


def test_conditions_are_joined_and_picked_whole() -> None:
    other = replace(FITTING, pooled=torch.ones(2, 12))
    joined = Condition.cat([FITTING, other])
    assert joined.pooled is not None
    assert joined.micro is not None
    assert joined.pooled[:, 0].tolist() == [0, 0, 1, 1]
    assert joined.micro.shape == (4, 2)
    picked = joined.rows([3, 0]).pooled
    assert picked is not None
    assert picked[:, 0].tolist() == [1, 0]
    with pytest.raises(ValueError, match="1 of 2 conditions have pooled; needed are all or none"):
        Condition.cat([FITTING, replace(FITTING, pooled=None)])
    with pytest.raises(ValueError, match=r"unlike shapes cannot be joined: micro \[\(2,\), \(3,\)\]"):
        Condition.cat([FITTING, replace(FITTING, micro=torch.zeros(2, 3))])


def test_numbers_beside_the_words() -> None:
    numbers = MicroNumbers((640, 480), (8, 16), (512, 256), 6.5)
    assert numbers.tensor(6, 2).tolist() == [[480, 640, 16, 8, 256, 512]] * 2
    assert numbers.tensor(5, 1).tolist() == [[480, 640, 16, 8, 6.5]]
    with pytest.raises(ValueError, match="4 numbers beside the words are unknown; 5 or 6 are known"):
        numbers.tensor(4, 1)
    assert (count_micro(2816, 256, 1280), count_micro(2560, 256, 1280), count_micro(None, 256, None)) == (6, 5, 0)
    with pytest.raises(UserError, match=r"adds 2817 to its time, but a pooled text of 1280 .* make 2560 or 2816"):
        count_micro(2817, 256, 1280)
    for added, pooled in ((None, 1280), (2816, None)):
        with pytest.raises(UserError, match="has both, earlier ones neither"):
            count_micro(added, 256, pooled)


def test_tasks_by_their_channels() -> None:
    found = [find_task(channels, 4, 4, classes) for channels, classes in ((4, None), (9, None), (8, None), (5, None))]
    assert [*found, find_task(7, 4, 4, 1000)] == [
        "text-to-image",
        "inpainting",
        "editing",
        "depth-to-image",
        "upscaling",
    ]
    with pytest.raises(
        UserError, match="from 6 to 4 channels, the autoencoder's latents have 4; with those it takes 4"
    ):
        find_task(6, 4, 4, None)


def test_a_projection_that_cannot_be() -> None:
    text = CLIPTextConfig(vocab_size=20, width=8, layers=1, heads=2, mlp_width=8, max_positions=5)
    for projection, eos, said in ((0, None, "projection 0"), (4, 20, "eos_id 20"), (4, 2, "eos_id 2 means")):
        with pytest.raises(ValueError, match=said):
            ProjectedTextConfig(text, projection, eos)
