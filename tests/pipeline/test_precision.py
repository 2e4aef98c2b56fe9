"""Half precision overflows: what is not finite is done once more in float32, and then it is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from latentbrush import GuidanceRequest, ImageRequest, Sampling, UserError, generate, pipeline
from latentbrush.devices import in_float32
from latentbrush.diffusion import Denoised, Level, PictureNoise
from latentbrush.model import LatentDiffusion
from latentbrush.pipeline import paint, resolve

STEPS = 2
MakeModel = Callable[..., LatentDiffusion]


def request(weight: float = 2.0, **sampling: Any) -> ImageRequest:
    return ImageRequest(
        prompt="a red cat",
        sampling=Sampling(**{"steps": STEPS, "seed": 3, **sampling}),
        guidance=GuidanceRequest(weight=weight),
    )


def halved(make_model: MakeModel, *, too_large: str | None = None) -> LatentDiffusion:
    """A model in float16; `too_large`: the part whose first convolution overflows there, and not in float32."""
    model = make_model()
    with torch.no_grad():
        if too_large == "decoder":
            model.autoencoder.decoder.conv_in.weight.mul_(1e5)
        if too_large == "encoder":
            model.autoencoder.encoder.conv_in.weight.mul_(6e4)
        if too_large == "unet":
            model.unet.conv_in.weight.mul_(1e5)
    return model.to(dtype=torch.float16)


def calls(model: LatentDiffusion) -> list[tuple[int, torch.dtype]]:
    """Batch and type of every call of the UNet from now on."""
    seen: list[tuple[int, torch.dtype]] = []
    model.unet.register_forward_pre_hook(lambda _, args: seen.append((len(args[0]), args[0].dtype)))
    return seen


def weights(model: LatentDiffusion) -> list[Tensor]:
    return [p.detach().clone() for part in (model.autoencoder, model.unet, model.text) for p in part.parameters()]


def draw_in(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    def noise(seeds: Any, shape: Any, _: torch.dtype, device: torch.device) -> PictureNoise:
        return PictureNoise(seeds, shape, dtype, device)

    monkeypatch.setattr(pipeline, "PictureNoise", noise)


def painted(model: LatentDiffusion, *seeds: int, **options: Any) -> Tensor:
    return paint(model, ["a red cat"] * len(seeds), seeds, resolve(model, request()), **options)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_paint_nearly_what_float32_paints(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """From the same noise; draws of another type are another stream."""
    half = painted(make_model().to(dtype=dtype), 3)
    assert half.dtype == dtype
    monkeypatch.setattr(
        pipeline, "PictureNoise", lambda seeds, shape, _, device: PictureNoise(seeds, shape, dtype, device)
    )
    full = painted(make_model(), 3)
    error = (half.float() - full).abs().mean()
    assert 0 < error < (0.02 if dtype == torch.float16 else 0.2), error


@pytest.mark.capability("float32-retry")
def test_a_decoding_that_overflows_is_repeated_alone(make_model: MakeModel) -> None:
    model = halved(make_model, too_large="decoder")
    before, seen = weights(model), calls(model)
    latents: list[Tensor] = []

    def on_step(x: Tensor, level: Level, denoised: Denoised) -> Tensor:
        latents.append(x)
        return x

    pixels = painted(model, 3, on_step=on_step)
    assert not bool(model.autoencoder.decode(latents[-1]).isfinite().all())  # as it was meant
    assert seen == [(2, torch.float16)] * STEPS
    with torch.no_grad(), in_float32(model.autoencoder):
        assert torch.equal(pixels, model.autoencoder.decode(latents[-1].float()))
    for old, new in zip(before, weights(model), strict=True):
        assert old.dtype == new.dtype
        assert torch.equal(old, new)
    assert not any(p.is_inference() for p in model.autoencoder.parameters())  # they could not be trained


@pytest.mark.capability("float32-retry")
def test_latents_that_overflow_are_sampled_again_from_the_same_noise(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = halved(make_model, too_large="unet")
    seen = calls(model)
    pixels = painted(model, 3)
    assert seen == [(2, torch.float16)] * STEPS + [(2, torch.float32)] * STEPS
    assert model.dtype == torch.float16

    model.to(dtype=torch.float32)
    draw_in(torch.float16, monkeypatch)
    # The latents come back to half precision to be decoded; only there the two differ.
    assert (pixels.float() - painted(model, 3)).abs().mean() < 0.02


def test_only_the_spoilt_picture_is_another(make_model: MakeModel) -> None:
    model = halved(make_model)
    undisturbed = painted(model, 3, 4, 5)
    seen = calls(model)

    def spoil(x: Tensor, level: Level, denoised: Denoised) -> Tensor:
        if x.dtype == torch.float16:
            x = x.clone()
            x[1] = torch.nan
        return x

    pixels = painted(model, 3, 4, 5, on_step=spoil)
    assert seen == [(6, torch.float16)] * STEPS + [(6, torch.float32)] * STEPS  # watchers count on the batch
    assert torch.equal(pixels[[0, 2]].half(), undisturbed[[0, 2]])
    assert bool(pixels.isfinite().all())
    assert (pixels[1] - undisturbed[1].float()).abs().mean() < 0.02


def test_an_encoding_that_overflows_is_repeated(make_model: MakeModel) -> None:
    model = halved(make_model, too_large="encoder")
    picture = Image.linear_gradient("L").resize((32, 32)).convert("RGB")
    digest = "0" * 64
    wanted = request().model_copy(
        update={"start": request().start.model_copy(update={"image": digest, "strength": 0.5})}
    )
    seen = calls(model)
    generate(model, wanted, images={digest: picture})
    assert seen == [(2, torch.float16)]  # half of two steps, not once more


@pytest.mark.capability("finite-pictures")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_is_not_finite_in_float32_either_is_an_error(make_model: MakeModel, dtype: torch.dtype) -> None:
    model = make_model().to(dtype=dtype)
    seen = calls(model)

    def spoil(x: Tensor, level: Level, denoised: Denoised) -> Tensor:
        return x * torch.inf

    with pytest.raises(UserError, match=r"picture of seed 3 is not finite at guidance 2; choose less guidance"):
        generate(model, request(), on_step=spoil)
    assert len(seen) == STEPS * (1 if dtype == torch.float32 else 2)
    assert model.dtype == dtype
