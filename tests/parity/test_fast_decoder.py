"""Pictures decoded by a tiny autoencoder against diffusers' pipeline with it in the place of its own.

Both sides in float64, 1e-9 but for the scheduler's tables: see test_pictures.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_pictures import PIXELS, ours, wanted
from test_tiny_autoencoder import tiny_taesd
from tiny import save_tiny_pipeline

from latentbrush import generate, load
from latentbrush.errors import UserError
from latentbrush.formats import with_fast_decoder

pytestmark = [
    pytest.mark.capability("tiny-autoencoder"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def test_pictures_of_a_fast_decoder(tmp_path: Path) -> None:
    pipeline = save_tiny_pipeline(tmp_path / "model").to(dtype=torch.float64)
    tiny = tiny_taesd()
    tiny.save_pretrained(tmp_path / "tiny")
    request = wanted(3, 4.0, "a blue dog", 32, 40)
    model = load(tmp_path / "model", dtype="float64")
    plain = ours(model, request)[1]
    found = ours(with_fast_decoder(model, tmp_path / "tiny"), request)[1]
    pipeline.vae = tiny.double()
    count = request.sampling.count
    expected = pipeline(
        prompt=[request.prompt] * count,
        negative_prompt=[request.guidance.negative] * count,
        num_inference_steps=3,
        guidance_scale=4.0,
        width=32,
        height=40,
        generator=[torch.Generator().manual_seed(seed) for seed in range(count)],
        output_type="np",
    ).images
    assert np.abs(found - (255 * expected).round().astype(int)).max() <= PIXELS
    assert np.abs(found - plain).max() > 10


def test_the_request_says_who_decoded(tmp_path: Path) -> None:
    save_tiny_pipeline(tmp_path / "model")
    tiny_taesd().save_pretrained(tmp_path / "tiny")
    model, request = load(tmp_path / "model"), wanted(1, 1.0, "", 32, 32, count=1)
    asked = request.model_copy(
        update={"model": request.model.model_copy(update={"fast_decoder": str(tmp_path / "tiny")})}
    )
    with pytest.raises(UserError, match="but the model was loaded without it"):
        generate(model, asked)
    assert generate(model, request)[0].request.model.fast_decoder is None
    with_fast_decoder(model, tmp_path / "tiny")
    for one in (asked, request):
        (image,) = generate(model, one)
        assert image.request.model.fast_decoder == str(tmp_path / "tiny")
        files = {name for name in image.record(model).model.weights if name.startswith("fast_decoder/")}
        assert files == {"fast_decoder/config.json", "fast_decoder/diffusion_pytorch_model.safetensors"}
    assert model.decoder is model.fast_decoder
    assert model.fast_decoder is not None
    model.to(dtype=torch.float64)
    assert next(model.fast_decoder.parameters()).dtype == torch.float64


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"latent_channels": 16}, "has 16 latent channels, the model's autoencoder 4"),
        ({"in_channels": 1, "out_channels": 1}, "has 1 picture channels, the model's autoencoder 3"),
        (
            {
                "num_encoder_blocks": (1, 1),
                "num_decoder_blocks": (1, 1),
                "encoder_block_out_channels": (8, 8),
                "decoder_block_out_channels": (8, 8),
            },
            "has 2 pixels a latent cell, the model's autoencoder 4",
        ),
    ],
)
def test_a_tiny_autoencoder_of_another_model(changes: dict[str, object], said: str, tmp_path: Path) -> None:
    save_tiny_pipeline(tmp_path / "model")
    tiny_taesd(**changes).save_pretrained(tmp_path / "tiny")
    model = load(tmp_path / "model")
    with pytest.raises(UserError, match=said):
        with_fast_decoder(model, tmp_path / "tiny")
    assert model.decoder is model.autoencoder
