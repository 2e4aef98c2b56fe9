"""A single file of Stable Diffusion XL that says by two empty tensors how it was trained: it paints like diffusers with
a velocity prediction and betas rescaled to a zero terminal SNR.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from safetensors.torch import load_file, save_file
from test_pictures import PUBLISHED, compare, ours
from test_xl import asking, opened, theirs
from tiny import tiny_text_encoder
from tiny_xl import tiny_second_tower, tiny_xl_pipeline
from transformers import CLIPTokenizer

from latentbrush import load
from latentbrush.conditioning.published import clip_tokenizer
from latentbrush.formats import convert, load_model
from latentbrush.formats.families import FAMILIES, Family
from latentbrush.formats.folder import outline_model

pytestmark = [
    pytest.mark.capability("single-file", "stable-diffusion-xl", "zero-terminal-snr"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

TRAINED = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}


def published_words(pad: str, directory: Path) -> CLIPTokenizer:
    """What single files of the family come without."""
    clip_tokenizer(pad).save(directory)
    return CLIPTokenizer.from_pretrained(directory)


def tiny_published(folder: Path) -> None:
    """A tiny pipeline with the published vocabulary, so that its file can do without settings."""
    pipeline: Any = tiny_xl_pipeline("base", EulerDiscreteScheduler, **TRAINED)
    pipeline.tokenizer = published_words("<|endoftext|>", folder / "1")
    pipeline.tokenizer_2 = published_words("!", folder / "2")
    places = {"max_position_embeddings": 77}
    pipeline.text_encoder = tiny_text_encoder("sd1", 49408, **places)
    pipeline.text_encoder_2 = tiny_second_tower(49408, **places)
    pipeline.save_pretrained(folder / "pipeline")


@pytest.mark.filterwarnings("ignore")
def test_the_marks_are_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_published(tmp_path)
    folder, whole = tmp_path / "pipeline", tmp_path / "whole.safetensors"
    convert(folder, whole, to="single-file")
    outline = outline_model(folder)
    text: Any = outline.text
    tiny = Family(
        "a tiny XL", outline.unet.config, outline.autoencoder.config, text.first.encoder.config, text.encoder.config
    )
    monkeypatch.setattr("latentbrush.formats.families.FAMILIES", {**FAMILIES, outline.unet.config.context_width: tiny})
    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    pipeline, request = opened(folder), asking(steps=4)
    for kept in (("v_pred", "ztsnr"), ("v_pred",), ()):
        path = tmp_path / f"{len(kept)}.safetensors"
        save_file(load_file(whole) | {name: marks[name] for name in kept}, path)
        model = load_model(path, dtype=torch.float64)
        assert model.schedule.rescale_zero_snr == ("ztsnr" in kept)
        assert model.prediction == ("v_prediction" if "v_pred" in kept else "epsilon")
        if len(kept) == 2:
            compare(ours(model, request), theirs(pipeline, request), PUBLISHED)
            compare(ours(model, request), ours(load(folder, dtype=torch.float64), request), PUBLISHED)
