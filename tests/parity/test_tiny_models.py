"""Whole models whose vae is a tiny autoencoder (TAESD): painted through it as diffusers paints, both in float64.

It has no posterior, so that diffusers draws no noise for a picture it encodes; tolerances as in test_pictures.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import test_inpainting
import test_pictures
import torch
from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionInpaintPipeline, StableDiffusionPipeline
from test_pictures import PUBLISHED, compare, opened, wanted
from test_tiny_autoencoder import tiny_taesd
from tiny import tiny_pipeline, tiny_unet

from latentbrush import load
from latentbrush.errors import UserError
from latentbrush.formats import convert, save_model, summarise
from latentbrush.nn import TinyAutoencoder

pytestmark = [
    pytest.mark.capability("other-autoencoder"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    parts = tiny_pipeline("sd1", EulerAncestralDiscreteScheduler).components | {"vae": tiny_taesd(scaling_factor=0.7)}
    StableDiffusionPipeline(**parts, requires_safety_checker=False).save_pretrained(path)
    return path


@pytest.mark.compatible("tiny-vae", "folder")
def test_from_noise(folder: Path, tmp_path: Path) -> None:
    request = wanted(3, 4.0, "a blue dog", 32, 40)
    model = load(folder, dtype=torch.float64)
    assert isinstance(model.autoencoder, TinyAutoencoder)
    found = test_pictures.ours(model, request)
    compare(found, test_pictures.theirs(opened(folder), request), PUBLISHED)
    save_model(model, tmp_path / "saved")
    convert(folder, tmp_path / "converted", to="diffusers")
    for again in ("saved", "converted"):
        pipeline = opened(tmp_path / again)
        assert type(pipeline.vae).__name__ == "AutoencoderTiny"
        compare(found, test_pictures.theirs(pipeline, request), PUBLISHED)
    assert [part.kind for part in summarise(folder).parts if part.name == "vae"] == ["tiny autoencoder"]


@pytest.mark.parametrize("channels", [4, 9])
def test_from_a_masked_picture(channels: int, folder: Path, tmp_path: Path) -> None:
    """The sampler goes on drawing, so that a draw too many or too few would show."""
    pipeline = opened(folder)
    parts = pipeline.components | {"unet": tiny_unet("sd1", in_channels=channels).double()}
    inpainting = StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    inpainting.save_pretrained(tmp_path / "model")
    model = load(tmp_path / "model", dtype=torch.float64)
    for strength in (1.0, 0.6):
        request = test_inpainting.asking(strength)
        compare(test_inpainting.ours(model, request), test_inpainting.theirs(inpainting, request), PUBLISHED)


def test_what_cannot_be(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a tiny autoencoder has no place in a single file"):
        convert(folder, tmp_path / "one.safetensors", to="single-file")
    assert not list(tmp_path.iterdir())
    convert(folder, tmp_path / "copy", to="diffusers")
    index = tmp_path / "copy" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"vae": ["diffusers", "AutoencoderKL"]}))
    with pytest.raises(UserError, match=r"vae is an AutoencoderKL, but vae/config\.json is of the other kind"):
        load(tmp_path / "copy")
