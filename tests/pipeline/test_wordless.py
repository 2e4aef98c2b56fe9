"""Painting by models that read no words, in every way that others paint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from wordless import wordless_model

from latentbrush import Canvas, GuidanceRequest, ImageRequest, Sampling, Start, UserError, generate, load
from latentbrush.devices import in_float32
from latentbrush.diffusion import Denoised, Level, keep
from latentbrush.files import read_json, write_json
from latentbrush.formats import save_model
from latentbrush.latents import Tiling, encoded
from latentbrush.model import LatentDiffusion
from latentbrush.nn import Pixels, TinyAutoencoder, TinyConfig
from latentbrush.pipeline import paint, plan_of, resolve, to_pixels
from latentbrush.starts import Given, begin
from latentbrush.viewing import Trajectory

pytestmark = pytest.mark.capability("unconditional")

SAMPLING = Sampling(steps=3, seed=1, count=2)
REQUEST = ImageRequest(prompt="", sampling=SAMPLING)
GUIDE = "0" * 64


def pixels(model: LatentDiffusion, request: ImageRequest = REQUEST, **options: object) -> np.ndarray:
    painted = generate(model, request, **options)  # type: ignore[arg-type]
    return np.stack([np.asarray(one.image).astype(int) for one in painted])


@pytest.mark.parametrize("latent", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision(latent: bool, dtype: torch.dtype) -> None:
    model = wordless_model(latent=latent)
    with torch.no_grad():  # float16 holds the weights, but not what they make: the network is asked again in float32
        model.unet.conv_out.weight *= 1e5
    model = model.to(dtype=dtype)
    assert all(weight.isfinite().all() for weight in model.unet.parameters())
    assert model.dtype == dtype
    assert pixels(model).shape == (2, 8, 8, 3)
    with in_float32(model.text, model.unet, model.autoencoder):
        assert model.dtype == torch.float32
    assert model.dtype == dtype


@pytest.mark.capability("low-memory")
@pytest.mark.parametrize("latent", [False, True])
def test_in_low_memory(latent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU, under another of its names, stands for the device; decoding begins with the codebook."""
    expected, model = pixels(wordless_model(latent=latent)), wordless_model(latent=latent)
    names = {model.text: "text", model.unet: "unet", model.autoencoder: "autoencoder"}
    arrivals: list[str] = []

    def moved(module: torch.nn.Module, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        if device == torch.device("cpu:0"):
            arrivals.append(names[module])

    monkeypatch.setattr("latentbrush.devices._move", moved)
    model.one_part_on("cpu:0")
    if latent:
        model.autoencoder.codebook.register_forward_pre_hook(lambda *_: arrivals.append("asked"))
    assert np.array_equal(pixels(model), expected)
    assert arrivals == ["text", "unet", *(["autoencoder", "asked"] if latent else [])]


@pytest.mark.capability("image-to-image")
@pytest.mark.parametrize("latent", [False, True])
def test_nothing_is_drawn_of_a_picture_that_leaves_nothing_to_chance(latent: bool) -> None:
    model, drawn = wordless_model(latent=latent), []
    request = REQUEST.model_copy(update={"start": Start(image=GUIDE, strength=0.4)})

    def noise(channels: int | None = None) -> torch.Tensor:
        drawn.append(torch.ones(2, *model.latent_shape(8, 8)))
        return drawn[-1]

    given = Given(encoded(model, torch.zeros(1, 3, 8, 8)), strength=0.4)
    begun = begin(given, plan_of(model, resolve(model, request)), noise, keep)
    assert len(drawn) == 1
    assert begun.x.shape == drawn[0].shape


@pytest.mark.capability("image-to-image", "strength-ends")
@pytest.mark.parametrize("latent", [False, True])
def test_over_a_picture(latent: bool) -> None:
    """SDEdit was published for models without words: strength 0 returns the picture, 1 leaves nothing of it."""
    model = wordless_model(latent=latent)
    guide = Image.linear_gradient("L").resize((8, 8)).convert("RGB")
    apart = []
    for strength in (0.0, 0.4, 1.0):
        request = REQUEST.model_copy(update={"start": Start(image=GUIDE, strength=strength)})
        found = pixels(model, request, images={GUIDE: guide})
        apart.append(float(np.abs(found - np.asarray(guide)).mean()))
    assert apart[0] == 0 < min(apart[1:])
    assert apart[1] != apart[2]
    assert np.array_equal(found, pixels(model))


@pytest.mark.capability("inpainting")
def test_under_a_mask() -> None:
    model, guide = wordless_model(), Image.linear_gradient("L").resize((8, 8)).convert("RGB")
    mask = Image.new("L", (8, 8))
    mask.paste(255, (0, 0, 4, 8))
    start = Start(image=GUIDE, strength=1.0, mask="1" * 64)
    found = pixels(model, REQUEST.model_copy(update={"start": start}), images={GUIDE: guide, "1" * 64: mask})
    assert np.array_equal(found[0, :, 4:], np.asarray(guide)[:, 4:])
    assert np.abs(found[0, :, :4] - np.asarray(guide)[:, :4]).max() > 10


def test_pixels_are_never_changed_on_the_way_in() -> None:
    model, x = wordless_model(), torch.rand(1, 3, 8, 8) * 2 - 1
    assert torch.equal(encoded(model, x).at(torch.randn(1, 3, 8, 8)), x)


@pytest.mark.capability("tiles")
@pytest.mark.parametrize("latent", [False, True])
def test_in_tiles(latent: bool) -> None:
    """A picture of several tiles: of pixels it is the same but for rounding, of latents as its first tile begins."""
    model, canvas = wordless_model(latent=latent), Canvas(width=20, height=16, tiles="on")
    whole = pixels(model, REQUEST.model_copy(update={"canvas": canvas.model_copy(update={"tiles": "off"})}))
    tiled = pixels(model, REQUEST.model_copy(update={"canvas": canvas}))
    assert tiled.shape == whole.shape == (2, 16, 20, 3)
    assert latent or np.abs(tiled - whole).max() <= 1
    x = to_pixels(Image.linear_gradient("L").resize((20, 16)).convert("RGB"))[None]
    parts, one = (encoded(model, x, Tiling(tiles)).mode() for tiles in ("on", "off"))
    assert parts.shape == one.shape
    assert latent or torch.allclose(parts, one, atol=1e-6)


@pytest.mark.capability("denoising-strip")
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "heun"])
def test_frames_are_what_a_clipped_network_read(sampler: str) -> None:
    """Clipping changes x0, and what was read does not follow from that any more."""
    model = wordless_model()
    request = resolve(model, REQUEST.model_copy(update={"sampling": SAMPLING.model_copy(update={"sampler": sampler})}))
    trajectory, read = Trajectory(plan_of(model, request), most=100), {}
    model.unet.register_forward_pre_hook(lambda _, args: read.update({float(args[1][0]): args[0].clone()}))
    clipped = []

    def on_step(x: torch.Tensor, level: Level, denoised: Denoised) -> torch.Tensor:
        assert denoised.unclipped is not None
        assert float(denoised.x0.abs().max()) <= 1
        clipped.append(bool((denoised.unclipped != denoised.x0).any()))
        return trajectory(x, level, denoised)

    generate(model, request, on_step)
    assert any(clipped)
    *noisy, _ = trajectory.frames
    assert len(noisy) == len(read) == 3
    for frame in noisy:
        torch.testing.assert_close(frame.latents, read[frame.t], rtol=0, atol=2e-5)


def test_a_fast_decoder_that_does_not_fit() -> None:
    with pytest.raises(UserError, match="the fast decoder has 8 pixels a latent cell, the model's autoencoder 1"):
        wordless_model().decode_fast(TinyAutoencoder(TinyConfig(latent_channels=3)))


def test_nobody_tells_it_words(make_model: object) -> None:
    model = wordless_model()
    for request, said in (
        (ImageRequest(prompt="a cat"), "the prompt is 'a cat', but the model reads no words; leave it out"),
        (ImageRequest(prompt="", label=0), "the label is 0, but the model knows no classes"),
        (ImageRequest(prompt="", guidance=GuidanceRequest(negative="x")), "the negative prompt is 'x', but the model"),
        (ImageRequest(prompt="", guidance=GuidanceRequest(weight=2)), "guidance is 2, but the model knows nothing"),
    ):
        with pytest.raises(UserError, match=said):
            resolve(model, request)
    # Whoever paints a batch of words, such as an evaluation, is told so too.
    for classes in (None, 3):
        model = wordless_model(classes=classes)
        request = resolve(model, ImageRequest(prompt="", label=None if classes is None else 0))
        with pytest.raises(UserError, match="is 'a cat', but the model"):
            paint(model, ["a cat"], [0], request)
    with pytest.raises(UserError, match="the label is 2, but the model reads words and knows no classes"):
        resolve(make_model(), ImageRequest(prompt="a cat", label=2))  # type: ignore[operator]


@pytest.mark.capability("class-to-image")
def test_labels_of_a_batch_are_each_their_own() -> None:
    """One batch of several labels is what each label paints alone, from the same noise."""
    model = wordless_model(classes=3)
    request = resolve(model, ImageRequest(prompt="", label=0, sampling=Sampling(steps=3, seed=1)))
    both = paint(model, [2, 0], [4, 4], request)
    for place, label in enumerate((2, 0)):
        alone = paint(model, [label], [4], request)[0]
        torch.testing.assert_close(both[place], alone, rtol=0, atol=1e-4)
    assert float((both[0] - both[1]).abs().max()) > 0.1


def test_defaults_are_the_pipelines(tmp_path: Path) -> None:
    for sampler, steps in (("ddpm", 1000), ("ddim", 50)):
        save_model(wordless_model(sampler=sampler), tmp_path / sampler)
        (tmp_path / sampler / "latentbrush.json").unlink()
        model = load(tmp_path / sampler)
        defaults = model.defaults
        assert (defaults.steps, defaults.guidance, defaults.width, defaults.height) == (steps, 1, 8, 8)
        assert isinstance(model.autoencoder, Pixels)


CONFIG = "scheduler/scheduler_config.json"


@pytest.mark.capability("strict-loading")
@pytest.mark.parametrize(
    "changes", [{}, {"clip_sample": None}, {"thresholding": True, "dynamic_thresholding_ratio": 0.5}]
)
def test_clipping_is_that_of_the_sampler_asked_for(changes: dict[str, object], tmp_path: Path) -> None:
    """It belongs to a scheduler's class: the picture is the same whether the model was read for the sampler, or the
    request names it."""
    save_model(wordless_model(sampler="ddpm", clip=0.3), tmp_path / "model")
    path = tmp_path / "model" / CONFIG
    write_json(path, {key: value for key, value in {**read_json(path), **changes}.items() if value is not None})
    model, pictures = load(tmp_path / "model"), {}
    for sampler in ("ddpm", "ddim", "euler", "dpmpp_2m"):
        request = ImageRequest(prompt="", sampling=Sampling(sampler=sampler, steps=3, seed=1))
        read = load(tmp_path / "model", sampler=sampler)
        assert model.limits_of(sampler) == (read.threshold, read.clip)
        pictures[sampler] = pixels(model, request)
        assert np.array_equal(pictures[sampler], pixels(read, request))
    whole = wordless_model(sampler="ddpm", clip=None)
    for sampler in ("euler", "dpmpp_2m"):
        request = ImageRequest(prompt="", sampling=Sampling(sampler=sampler, steps=3, seed=1))
        limited = sampler != "euler" and "thresholding" in changes
        assert np.array_equal(pictures[sampler], pixels(whole, request)) != limited


@pytest.mark.capability("strict-loading")
def test_a_limit_that_only_another_sampler_reads(tmp_path: Path) -> None:
    save_model(wordless_model(sampler="tcd", clip=None), tmp_path / "model")
    path = tmp_path / "model" / CONFIG
    write_json(path, {**read_json(path), "thresholding": True, "dynamic_thresholding_ratio": 7})
    model = load(tmp_path / "model")
    assert model.limits_of() == (None, None)
    with pytest.raises(UserError, match="dynamic thresholding at the quantile 7"):
        generate(model, ImageRequest(prompt="", sampling=Sampling(sampler="ddim", steps=2)))
