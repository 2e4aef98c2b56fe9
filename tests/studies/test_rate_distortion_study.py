"""The study of a tiny model: its rates are the bound's, its first stage's those of distributions, its page theirs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_emoji import make_emoji_folder
from quarters import Quarters
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from wordless import wordless_model

from latentbrush.data.folder import ImageFolder
from latentbrush.data.pixels import to_bytes, to_signed
from latentbrush.diffusion import Schedule, bound_levels
from latentbrush.errors import UserError
from latentbrush.latents import encoded
from latentbrush.model import LatentDiffusion, ModelDefaults
from latentbrush.studies.first_stage import HeldPictures
from latentbrush.studies.likelihood import measure_bits
from latentbrush.studies.rate_distortion import RateDistortionStudy
from latentbrush.studies.rate_distortion.curve import diffusion_curve, levels_shown, stage_point
from latentbrush.studies.rate_distortion.seen import Judge
from latentbrush.studies.study import StudyRun

pytestmark = pytest.mark.capability("rate-distortion")


@pytest.fixture(scope="module")
def model(make_model: Callable[..., LatentDiffusion]) -> LatentDiffusion:
    return make_model(defaults=ModelDefaults(steps=2, guidance=1.0, width=16, height=16))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ImageFolder:
    return ImageFolder(make_emoji_folder(tmp_path_factory.mktemp("made-up") / "emoji"))


def some(count: int = 5, side: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def test_levels_are_even_in_angle() -> None:
    levels = bound_levels(Schedule(), 200)
    places = levels_shown(levels, 12)
    assert len(places) == 12
    assert (places[0], places[-1]) == (0, 199)
    angles = [math.atan2(levels[i].floats()[1], levels[i].floats()[0]) for i in places]
    gaps = torch.tensor(angles).diff()
    assert (gaps < 0).all()
    assert gaps.max() / gaps.min() == pytest.approx(1.0, abs=0.15)
    assert levels_shown(levels[:3], 12) == [0, 1, 2]


def test_rates_are_those_of_the_bound(model: LatentDiffusion) -> None:
    pictures = some()
    judge = Judge(pictures, Quarters())
    found = diffusion_curve(model, judge, [""] * 5, steps=6, seed=3)
    bits = measure_bits(model, HeldPictures("some", pictures), [""] * 5, steps=6, seed=3)
    share = 4 * 4 * 4 / (3 * 16 * 16)  # latents' numbers of pictures'
    assert found["rates"] == pytest.approx((bits.curve.rate * share).tolist())
    assert found["total"] == pytest.approx(float(bits.latents.mean()) * share)
    assert bits.pixels is not None
    assert found["picture_bits"] == pytest.approx(float(bits.pixels.mean()))
    assert [level["rate"] for level in found["levels"]] == [found["rates"][i] for i in range(6)]
    # A first stage with a diffusion prior: with the decoder's own bits it makes the whole bound.
    stage = stage_point(model, judge, seed=3)
    total = found["total"] - stage["entropy"]
    assert bits.deviation is not None
    assert 0 < total < found["picture_bits"]


def test_estimates_in_pixels_err_as_the_bound_says() -> None:
    """Where diffusion works in pixels, what is seen is the bound's own estimate, but for rounding to bytes."""
    model = wordless_model(clip=1.0)
    pictures = some(side=8)
    found = diffusion_curve(model, Judge(pictures, Quarters()), [None] * 5, steps=5, seed=0)
    bits = measure_bits(model, HeldPictures("some", pictures), [None] * 5, steps=5, seed=0)
    seen = [level["rmse"] for level in found["levels"]]
    assert len(seen) == 5
    assert seen == pytest.approx(bits.curve.distortion.tolist(), abs=0.5)
    assert found["picture_bits"] == pytest.approx(found["total"])
    assert stage_point(model, Judge(pictures, Quarters()), seed=0) == {"kind": "none"}


def test_the_first_stage_takes_the_bits_of_its_posterior(model: LatentDiffusion) -> None:
    pictures = some()
    found = stage_point(model, Judge(pictures, Quarters()), seed=0)
    posterior = encoded(model, to_signed(pictures))
    q = Normal(posterior.mean.double(), posterior.std.double())
    numbers = pictures.numel() * math.log(2)
    assert found["standard"] == pytest.approx(float(kl_divergence(q, Normal(0.0, 1.0)).sum()) / numbers, rel=1e-5)
    assert found["entropy"] == pytest.approx(float(q.entropy().sum()) / numbers, rel=1e-5)


def test_a_codebook_takes_the_bits_of_its_codes() -> None:
    model, pictures = wordless_model(latent=True), some(side=8)
    found = stage_point(model, Judge(pictures, Quarters()), seed=0)
    assert (found["kind"], found["entropy"]) == ("vq", None)
    assert found["standard"] == pytest.approx(math.log2(9) * 16 / (3 * 64))
    decoded = to_bytes(model.autoencoder.decode(model.autoencoder.encode(to_signed(pictures)))).double()  # type: ignore[arg-type]
    assert found["rmse"] == pytest.approx(float((decoded - pictures.double()).square().mean().sqrt()))


def texts(found: Any) -> str:
    items = [item for section in found.page.sections for item in section.items]
    return "\n".join([found.page.lead, *(item.text for item in items if item.kind == "text")])


def test_page_and_figures(model: LatentDiffusion, world: ImageFolder, tmp_path: Path) -> None:
    study = RateDistortionStudy(model, world, Quarters(), pictures=4, steps=4)
    assert study.rate() > 0
    assert [cell.name for cell in study.cells()] == [
        "held-out-told-nothing", "held-out-told-their-captions", "train-told-nothing", "train-told-their-captions",
        "held-out-known-codes", "train-known-codes",
    ]  # fmt: skip
    run = StudyRun(study, tmp_path / "s", resume=False)
    run.begin()
    assert "Nothing has been measured" in texts(run.write())
    for cell in study.cells():
        run.do(cell)
    found = run.write()
    names = sorted(path.name for path in (tmp_path / "s").glob("*.png"))
    assert names == ["held-out-recognised.png", "held-out.png", "train-recognised.png", "train.png"]
    cells = json.loads((tmp_path / "s/study.json").read_text())["cells"]
    held = cells["held-out-told-nothing"]
    stage = held["first_stage"]
    assert stage["learned"] == pytest.approx(held["total"] - stage["entropy"])
    assert held["levels"] != cells["held-out-told-their-captions"]["levels"]
    assert stage["standard"] == cells["held-out-told-their-captions"]["first_stage"]["standard"]
    png = cells["held-out-known-codes"]["codes"][-1]["rate"]
    assert f"every byte takes {png:.2f} bits per dimension (by PNG)" in found.page.lead
    # An untrained model is no code: its latents cost more than the bytes do.
    assert "so that it compresses nothing" in texts(found)
    assert "is contradicted here" in texts(found)


def test_what_it_refuses(model: LatentDiffusion, world: ImageFolder) -> None:
    with pytest.raises(UserError, match="a bound of 1 steps; choose from 2 to 1000"):
        RateDistortionStudy(model, world, Quarters(), steps=1)
    with pytest.raises(UserError, match="1 pictures are asked for"):
        RateDistortionStudy(model, world, Quarters(), pictures=1)
    with pytest.raises(UserError, match="no pictures that were held out"):
        RateDistortionStudy(model, world.select("train"), Quarters())
    with pytest.raises(UserError, match="the model is for class-to-image"):
        RateDistortionStudy(wordless_model(classes=3), world, Quarters())
    bare = RateDistortionStudy(wordless_model(), world, Quarters(), steps=3)
    assert [cell.name for cell in bare.cells()][:2] == ["held-out-told-nothing", "train-told-nothing"]
