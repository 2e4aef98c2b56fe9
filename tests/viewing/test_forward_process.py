"""The forward process on a picture: the levels, and errors against a network whose answers are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latentbrush.diffusion import Denoiser, PictureNoise, Schedule
from latentbrush.errors import UserError
from latentbrush.model import LatentDiffusion
from latentbrush.viewing import forward as forward_module
from latentbrush.viewing import forward_process, forward_sheet

pytestmark = pytest.mark.capability("forward-process")

PICTURE = Image.linear_gradient("L").resize((32, 32)).convert("RGB")


@pytest.fixture
def model(make_model: Callable[..., LatentDiffusion]) -> LatentDiffusion:
    return make_model()


def test_the_picture_is_noised_level_by_level(model: LatentDiffusion) -> None:
    process = forward_process(model, PICTURE, seed=3, levels=5)
    assert [level.t for level in process.levels] == [0, 250, 500, 749, 999]
    assert torch.equal(process.noise, PictureNoise([3], (4, 8, 8))())
    abar = model.schedule.alphas_cumprod
    for level in process.levels:
        assert level.alpha**2 == pytest.approx(float(abar[level.t]), rel=1e-6)
        expected = abar[level.t].sqrt() * process.z0 + (1 - abar[level.t]).sqrt() * process.noise
        torch.testing.assert_close(level.z, expected.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_errors_are_against_the_truth(model: LatentDiffusion, prediction: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = forward_process(model, PICTURE, seed=3, levels=3)
    share = 1.0

    def oracle(*_: Any) -> Denoiser:
        """Says `share` of what it should."""
        return Denoiser(
            lambda z, level: share * Denoiser(lambda *_: z, prediction).target(truth.z0, truth.noise, level), prediction
        )

    monkeypatch.setattr(model, "denoiser", oracle)
    for level in forward_process(model, PICTURE, seed=3, levels=3).levels:
        assert level.noise_error < 1e-4
        assert level.z0_error < 1e-3 / level.alpha
        assert level.loss < 1e-9
        torch.testing.assert_close(level.noise, truth.noise, rtol=0, atol=1e-4)
    share = 0.5
    if prediction == "epsilon":
        for level in forward_process(model, PICTURE, seed=3, levels=3).levels:
            rms = float(truth.noise.square().mean().sqrt())
            assert level.noise_error == pytest.approx(rms / 2, rel=1e-4)
            assert level.z0_error == pytest.approx(rms / 2 * level.sigma / level.alpha, rel=1e-3)
            assert level.loss == pytest.approx(rms**2 / 4, rel=1e-4)


def test_the_prompt_is_told(model: LatentDiffusion) -> None:
    first, second = (forward_process(model, PICTURE, prompt=prompt, levels=2) for prompt in ("", "a red cat"))
    assert torch.equal(first.levels[0].z, second.levels[0].z)
    assert not torch.equal(first.levels[0].noise, second.levels[0].noise)


@pytest.mark.parametrize("levels", [-1, 0, 1, 17])
def test_levels_out_of_range(model: LatentDiffusion, levels: int) -> None:
    with pytest.raises(UserError, match=f"^{levels} levels are asked for; choose 2 to 16$"):
        forward_process(model, PICTURE, levels=levels)


def test_a_short_schedule_has_fewer_levels(make_model: Callable[..., LatentDiffusion]) -> None:
    model = make_model(schedule=Schedule(num_train_timesteps=4))
    assert [level.t for level in forward_process(model, PICTURE, levels=4).levels] == [0, 1, 2, 3]
    with pytest.raises(UserError, match="choose 2 to 4"):
        forward_process(model, PICTURE, levels=5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_model_that_says_nothing_of_the_last_level_is_refused(
    make_model: Callable[..., LatentDiffusion], prediction: Any
) -> None:
    """With words for this command, which has no sampler and no spacing to choose."""
    model = make_model(schedule=Schedule(rescale_zero_snr=True), prediction=prediction)
    if prediction != "epsilon":
        assert forward_process(model, PICTURE, levels=2).levels[-1].alpha == 0
        return
    with pytest.raises(UserError, match=r"predicts epsilon, .* at t = 999, .*; choose a model with v_prediction"):
        forward_process(model, PICTURE, levels=2)


def test_a_sheet_has_a_column_a_level(model: LatentDiffusion) -> None:
    sheets = [forward_sheet(model, forward_process(model, PICTURE, levels=count)) for count in (2, 5)]
    assert sheets[0].height == sheets[1].height > 4 * 128
    assert sheets[1].width - sheets[0].width == 3 * 134
    noise = [np.asarray(forward_sheet(model, forward_process(model, PICTURE, levels=2), c)) for c in (0, 1)]
    assert not np.array_equal(noise[0], noise[1])


def halved(make_model: Callable[..., LatentDiffusion], too_large: str) -> LatentDiffusion:
    """A model in float16 of which a part overflows there, and not in float32."""
    model = make_model()
    first = {
        "encoder": model.autoencoder.encoder.conv_in,
        "decoder": model.autoencoder.decoder.conv_in,
        "unet": model.unet.conv_in,
    }[too_large]
    with torch.no_grad():
        first.weight.mul_(6e4 if too_large == "encoder" else 1e5)
    return model.to(dtype=torch.float16)


@pytest.mark.capability("float32-retry")
@pytest.mark.parametrize("part", ["encoder", "decoder", "unet"])
def test_what_overflows_in_half_precision_is_done_in_float32(
    make_model: Callable[..., LatentDiffusion], part: str
) -> None:
    model = halved(make_model, part)
    process = forward_process(model, PICTURE, levels=3)
    sheet = np.asarray(forward_sheet(model, process)).astype(int)
    assert model.dtype == torch.float16
    model.to(dtype=torch.float32)
    # From the same noise, which each type of numbers draws for itself.
    with torch.inference_mode():
        full = forward_module._process(model, process.z0, process.noise, "", [0, 500, 999])
    for level, expected in zip(process.levels, full.levels, strict=True):
        assert level.loss == pytest.approx(expected.loss, rel=0.05)
    expected_sheet = np.asarray(forward_sheet(model, full)).astype(int)
    # Halves are within a few steps of 255 of float32, NaN painted black is not.
    assert np.abs(sheet - expected_sheet).mean() < 1


@pytest.mark.capability("finite-pictures")
def test_what_is_not_finite_in_float32_either_is_an_error(make_model: Callable[..., LatentDiffusion]) -> None:
    for part, said in {
        "encoder": "makes of a picture what is not finite; its weights are damaged",
        "unet": "what the model says of the picture is not finite; its weights are damaged",
    }.items():
        model = make_model()
        spoilt = model.unet if part == "unet" else model.autoencoder.encoder
        spoilt.conv_in.weight.data[0] = torch.nan
        with pytest.raises(UserError, match=said):
            forward_process(model, PICTURE, levels=2)
    model = make_model()
    process = forward_process(model, PICTURE, levels=2)
    model.autoencoder.decoder.conv_in.weight.data[0] = torch.nan
    with pytest.raises(UserError, match="the picture at t = 0 is not finite"):
        forward_sheet(model, process)
