"""Known codes give back what they should for the bits they take; who is compared is found again; shares by hand."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from PIL import Image
from quarters import Quarters
from torch import Tensor

from latentbrush.studies.rate_distortion import codes
from latentbrush.studies.rate_distortion.codes import CODES, Code, coded
from latentbrush.studies.rate_distortion.seen import Judge
from latentbrush.studies.rate_distortion.shares import rate_where, shares_of

pytestmark = pytest.mark.capability("rate-distortion")


@pytest.fixture
def pictures() -> Tensor:
    """Seven of 16 x 8 pixels, smooth enough for JPEG to gain by."""
    coarse = torch.rand(7, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    return (255 * torch.nn.functional.interpolate(coarse, (8, 16), mode="bilinear")).to(torch.uint8)


def test_lossless_is_lossless(pictures: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    bits, back = coded(pictures, Code("PNG", None))
    assert torch.equal(back, pictures)
    one, _ = coded(pictures[:1], Code("PNG", None))
    buffer = io.BytesIO()
    Image.fromarray(pictures[0].permute(1, 2, 0).numpy()).save(buffer, "PNG", optimize=True)
    assert one == 8 * len(buffer.getvalue()) / pictures[0].numel()
    assert bits < one  # a header for seven, not for one
    monkeypatch.setattr(codes, "SHEET", 3)  # several files, the last with one picture
    several, again = coded(pictures, Code("PNG", None))
    assert torch.equal(again, pictures)
    assert several > bits


def test_more_quality_takes_more_bits_and_errs_less(pictures: Tensor) -> None:
    for kind in ("JPEG", "PNG"):
        chosen = [code for code in CODES if code.kind == kind]
        found = [coded(pictures, code) for code in (chosen[0], chosen[3], chosen[-1])]
        errors = [float((back.double() - pictures.double()).square().mean()) for _, back in found]
        assert errors[0] > errors[1] > errors[2]
        assert found[0][0] < found[1][0] < found[2][0]
    assert len({code.name for code in CODES}) == len(CODES)


def test_pictures_are_compared_with_their_own(pictures: Tensor) -> None:
    judge = Judge(pictures, Quarters(), batch=3)
    same = judge.whole(pictures)
    assert (same.rmse, same.recognised) == (0.0, 1.0)
    assert same.cosine == pytest.approx(1.0)
    swapped = judge.whole(pictures.roll(1, 0))
    assert swapped.recognised == 0.0
    assert judge.whole(pictures[:1].repeat(7, 1, 1, 1)).recognised == pytest.approx(1 / 7)  # all as the first one
    brighter = pictures.clamp(max=250)
    for first in (5, 0):  # in any order
        judge.add("brighter", first, (brighter + 5)[first : first + 5])
    moved = (brighter.double() + 5 - pictures.double()).square().mean().sqrt()
    assert judge.seen("brighter").rmse == pytest.approx(float(moved))
    judge.add("half", 0, pictures[:3])
    with pytest.raises(ValueError, match="3 of 7 pictures"):
        judge.seen("half")


def test_equal_originals_are_both_recognised(pictures: Tensor) -> None:
    twice = torch.cat([pictures, pictures[:1]])
    assert Judge(twice, Quarters()).whole(twice).recognised == 1.0


LEVELS = [
    {"rate": rate, "rmse": rmse, "recognised": share}
    for rate, rmse, share in ((0.0, 70.0, 0.0), (1.0, 30.0, 0.6), (2.0, 10.0, 1.0))
]


def test_where_a_goal_is_reached() -> None:
    assert rate_where(LEVELS, "rmse", 20.0, below=True) == pytest.approx(1.5)
    assert rate_where(LEVELS, "recognised", 0.9, below=False) == pytest.approx(1.75)
    assert rate_where(LEVELS, "rmse", 80.0, below=True) == 0.0
    assert rate_where(LEVELS, "rmse", 5.0, below=True) is None
    back = [*LEVELS, {"rate": 3.0, "rmse": 30.0, "recognised": 1.0}, {"rate": 4.0, "rmse": 10.0, "recognised": 1.0}]
    assert rate_where(back, "rmse", 20.0, below=True) == pytest.approx(3.5)  # it is to stay there


def curve(stage: dict[str, Any], picture_bits: float | None) -> dict[str, Any]:
    return {"levels": LEVELS, "picture_bits": picture_bits, "first_stage": stage}


KNOWN = [{"kind": "PNG", "rate": 4.0}, {"kind": "PNG", "rate": 8.0}]


def test_shares_of_the_bits() -> None:
    stage = {"kind": "kl", "standard": 3.0, "learned": 2.0, "rmse": 20 / 1.1, "recognised": 0.9 / 0.95}
    shares = shares_of(curve(stage, 9.0), KNOWN)
    assert shares.lossless, shares.lossless_by == (8.0, "PNG")
    assert shares.detail == pytest.approx(1.5)
    assert shares.semantic == pytest.approx(1.75)
    assert shares.stage == 2.0
    assert shares.imperceptible == 0.75
    assert shares.meaning == pytest.approx(1.75 / 8)
    assert shares_of(curve(stage, 7.0), KNOWN).lossless_by == "the model's bound"
    codebook = shares_of(curve({**stage, "kind": "vq", "learned": None}, None), KNOWN)
    assert codebook.stage == 3.0
    bare = shares_of(curve({"kind": "none"}, 5.0), KNOWN)
    assert (bare.stage, bare.imperceptible, bare.lossless) == (None, None, 5.0)
    assert bare.semantic is not None
    assert not math.isnan(bare.semantic)
