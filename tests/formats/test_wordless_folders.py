"""Folders of models without words: what we write we read, and every way to break one is an error that says how."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from wordless import wordless_model

from latentbrush.conditioning import LabelConditioner
from latentbrush.diffusion import Threshold
from latentbrush.errors import UserError
from latentbrush.formats import load_model, load_vq, outline_model, save_model
from latentbrush.model import LatentDiffusion
from latentbrush.nn import PixelConfig, Pixels, TinyAutoencoder, TinyConfig, UNet2D, UNet2DConfig

pytestmark = pytest.mark.capability("strict-loading", "unconditional")

LEADING = {"spacing": "leading"}
MODELS: dict[str, dict[str, Any]] = {
    "pixels": {"plan_options": LEADING, "sampler": "ddpm", "clip": 0.5},
    "threshold": {"clip": None, "threshold": Threshold(0.9, 2.0), "prediction": "v_prediction"},
    "latents": {"latent": True, "plan_options": {"spacing": "trailing", "eta": 0.5}},
    "classes": {"classes": 4, "plan_options": {"spacing": "leading", "steps_offset": 1}},
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_is_read(name: str, tmp_path: Path) -> None:
    model = wordless_model(**MODELS[name])
    save_model(model, tmp_path / "model")
    for again in (load_model(tmp_path / "model"), outline_model(tmp_path / "model")):
        assert (again.task, again.clip, again.threshold) == (model.task, model.clip, model.threshold)
        assert (again.prediction, again.sampler, again.defaults) == (model.prediction, model.sampler, model.defaults)
        assert again.plan_config() == model.plan_config()
        assert again.unet.config == model.unet.config
        assert isinstance(again.text, LabelConditioner)
        assert again.text.classes == MODELS[name].get("classes")
    loaded = load_model(tmp_path / "model")
    for mine, other in ((model.unet, loaded.unet), (model.autoencoder, loaded.autoencoder)):
        assert type(mine) is type(other)
        first, second = mine.state_dict(), other.state_dict()
        assert first.keys() == second.keys()
        assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())


def test_an_autoencoder_that_its_pipeline_has_no_place_for(tmp_path: Path) -> None:
    model = wordless_model(latent=True)
    blocks = {"encoder_blocks": (1, 1), "decoder_blocks": (1, 1)}
    tiny = TinyAutoencoder(TinyConfig(encoder_width=4, decoder_width=4, latent_channels=3, **blocks))
    model.exchange_autoencoder(tiny, "tiny")
    with pytest.raises(UserError, match="AutoencoderTiny, which LDMPipeline has no place for; save the model with"):
        save_model(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_its_autoencoder_alone(tmp_path: Path) -> None:
    save_model(wordless_model(latent=True), tmp_path / "model")
    assert load_vq(tmp_path / "model").config.codebook_size == 9


def test_halves(tmp_path: Path) -> None:
    save_model(wordless_model(latent=True), tmp_path / "half", dtype=torch.float16)
    whole, half = load_model(tmp_path / "half"), load_model(tmp_path / "half", dtype="float16")
    assert (whole.dtype, half.dtype) == (torch.float32, torch.float16)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("saved") / "model"
    save_model(wordless_model(latent=True, classes=4), directory)
    return directory


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def edited(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no unet": (lambda path: shutil.rmtree(path / "unet"), "unet/diffusion_pytorch_model.safetensors is missing"),
    "no vqvae": (lambda path: shutil.rmtree(path / "vqvae"), "vqvae/diffusion_pytorch_model.safetensors is missing"),
    "no weights": (
        lambda path: (path / "vqvae/diffusion_pytorch_model.safetensors").unlink(),
        "vqvae/diffusion_pytorch_model.safetensors is missing",
    ),
    "no scheduler": (lambda path: shutil.rmtree(path / "scheduler"), "scheduler/scheduler_config.json"),
    "another first stage": (
        lambda path: edited(path / "model_index.json", vqvae=["diffusers", "AutoencoderTiny"]),
        "only diffusers's VQModel is supported",
    ),
    "a part too many": (
        lambda path: edited(path / "model_index.json", text_encoder=["transformers", "CLIPTextModel"]),
        "text_encoder",
    ),
    "other latents": (
        lambda path: edited(path / "vqvae/config.json", vq_embed_dim=4),
        "vqvae/diffusion_pytorch_model.safetensors disagrees with config.json",
    ),
    "not such a UNet": (
        lambda path: edited(path / "unet/config.json", _class_name="UNet2DConditionModel"),
        "only 'UNet2DModel' is",
    ),
    "not such a UNet, by the index": (
        lambda path: edited(path / "model_index.json", unet=["diffusers", "UNet1DModel"]),
        "of LDMPipeline is",
    ),
    "other classes": (
        lambda path: edited(path / "unet/config.json", num_class_embeds=5),
        "class_embedding.weight [4, 32] instead of [5, 32]",
    ),
    "clipping nowhere": (
        lambda path: edited(path / "scheduler/scheduler_config.json", clip_sample=True, clip_sample_range=0),
        "clip_sample_range is 0.0, needed is a positive number",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folders(name: str, folder: Path) -> None:
    spoil, said = BROKEN[name]
    spoil(folder)
    with pytest.raises(UserError) as caught:
        load_model(folder)
    assert said in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def unet_of(**changes: Any) -> UNet2D:
    given = {"channels": (8,), "attention": (False,), "groups": 4, "layers_per_block": 1, "mid_attention": False}
    return UNet2D(UNet2DConfig(**(given | changes)))


def test_parts_that_do_not_fit_together() -> None:
    pixels, nothing = Pixels(PixelConfig()), LabelConditioner()
    for channels in ({"in_channels": 4}, {"out_channels": 6}, {"in_channels": 1, "out_channels": 1}):
        with pytest.raises(UserError, match=r"channels, what it paints has 3 \(pixels 3"):
            LatentDiffusion(pixels, unet_of(**channels), nothing)
    with pytest.raises(UserError, match="the UNet knows 4 classes, the conditioner none"):
        LatentDiffusion(pixels, unet_of(classes=4), nothing)
    with pytest.raises(UserError, match="the UNet knows no classes, the conditioner 4"):
        LatentDiffusion(pixels, unet_of(), LabelConditioner(4))
    with pytest.raises(ValueError, match="0 classes; needed is at least 1"):
        LabelConditioner(0)
    with pytest.raises(ValueError, match="pixels' sample_size 0 must be at least 1"):
        PixelConfig(sample_size=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sampler": "euler"}, "the sampler euler cannot be saved: DDPMPipeline could not paint with it"),
        ({"sampler": "euler", "latent": True}, "leading spacing cannot be saved: LDMPipeline starts it from more"),
        ({"sampler": "dpmpp_2m"}, "clipping at 1.0 cannot be saved for the sampler dpmpp_2m"),
    ],
)
def test_what_diffusers_would_paint_otherwise_is_not_saved(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        save_model(wordless_model(**options), tmp_path / "model")
    assert not list(tmp_path.iterdir())
