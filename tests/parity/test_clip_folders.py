"""CLIP's folders of transformers open here, and those saved here open there, tensor for tensor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import MAX_LENGTH, TEXTS
from tiny_clip import VOCABULARY, pictures_of, their_clip, tiny_clip, tokens_of
from transformers import CLIPModel as TheirModel
from transformers import CLIPTokenizer

from latentbrush.conditioning import train_tokenizer
from latentbrush.errors import UserError
from latentbrush.formats import SIGNED, CLIPParts, PixelScale, load_clip, save_clip

pytestmark = pytest.mark.capability("clip-folders")


def edit(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("eos", [VOCABULARY - 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_folder_goes_both_ways(eos: int, dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = their_clip(tmp_path / "theirs", "gelu", eos=eos)
    parts = load_clip(tmp_path / "theirs")
    assert parts.tokenizer is None
    assert parts.pixels == PixelScale()
    save_clip(parts, tmp_path / "ours", dtype=dtype)
    again, info = TheirModel.from_pretrained(tmp_path / "ours", output_loading_info=True, dtype=torch.float32)
    assert not any(info.values())
    mine = again.state_dict()
    assert mine.keys() == theirs.state_dict().keys()
    for key, tensor in theirs.state_dict().items():
        assert torch.equal(tensor.to(dtype).float(), mine[key]), key
    for part in ("text_config", "vision_config"):
        for key, value in getattr(theirs.config, part).to_dict().items():
            described = key in ("bos_token_id", "pad_token_id", "projection_dim", "architectures", "dtype")
            assert described or getattr(again.config, part).to_dict()[key] == value, key
    assert again.config.projection_dim == 20
    with torch.no_grad():
        tokens, pictures = tokens_of(end=eos), pictures_of().float()
        found = again(input_ids=tokens, pixel_values=pictures).logits_per_text
        torch.testing.assert_close(load_clip(tmp_path / "ours").network(tokens, pictures), found)


def test_the_form_of_transformers_4_opens(tmp_path: Path) -> None:
    """Buffers beside the weights, and every default of text generation in the configs."""
    theirs = their_clip(tmp_path, eos=2)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    weights["text_model.embeddings.position_ids"] = torch.arange(MAX_LENGTH)[None]
    weights["vision_model.embeddings.position_ids"] = torch.arange(10)[None]
    save_file(weights, path)
    old = {"top_k": 50, "max_length": 20, "id2label": {"0": "LABEL_0"}, "dropout": 0.0, "torch_dtype": "float32"}

    def change(config: dict[str, Any]) -> None:
        config["text_config"].update(old)
        config["vision_config"].update(old)
        config["text_config_dict"] = {"hidden_size": 24, "projection_dim": 512}
        config["vision_config_dict"] = None

    edit(tmp_path / "config.json", change)
    network = load_clip(tmp_path).network
    assert network.config.eos_id is None
    assert torch.equal(network.vision_model.pre_layernorm.bias, theirs.vision_model.pre_layrnorm.bias)
    edit(tmp_path / "config.json", lambda config: config["text_config_dict"].update(hidden_size=48))
    with pytest.raises(UserError, match="hidden_size is 24 in text_config and 48 in text_config_dict"):
        load_clip(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["text_config"].update(hidden_act="relu"), "text_config: hidden_act 'relu' is not supported"),
        (lambda c: c["vision_config"].update(image_size=[12, 16]), r"vision_config: image_size is \[12, 16\]"),
        (lambda c: c["vision_config"].update(surprise=3), "vision_config: surprise 3 is unknown"),
        (lambda c: c.update(model_type="siglip"), "model_type 'siglip' is not supported"),
        (lambda c: c["text_config"].update(eos_token_id=VOCABULARY), "eos_id 560 is none of the vocabulary's 560"),
        (lambda c: c["vision_config"].update(patch_size=5), "12 is not a multiple of its patch_size 5"),
        (lambda c: c["vision_config"].update(num_hidden_layers=2), "16 tensors: vision_model.encoder.layers.2"),
        (lambda c: c.update(projection_dim=8), "shape of 2 tensors"),
        (lambda c: c.update(text_config=[]), r"text_config is \[\], needed is an object"),
    ],
)
def test_what_does_not_fit_is_named(change: Any, message: str, tmp_path: Path) -> None:
    their_clip(tmp_path)
    edit(tmp_path / "config.json", change)
    with pytest.raises(UserError, match=message):
        load_clip(tmp_path)


def test_a_missing_and_an_unknown_tensor_are_named(tmp_path: Path) -> None:
    their_clip(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    weights["vision_model.pre_layernorm.weight"] = weights.pop("vision_model.pre_layrnorm.weight")
    extra = weights | {"visual_projection.bias": torch.zeros(20)}
    # Correctly spelt, the name is ours and is read; files that have both are ambiguous.
    save_file(extra, path)
    with pytest.raises(UserError, match=r"holds 1 tensor: visual_projection\.bias"):
        load_clip(tmp_path)
    del weights["logit_scale"]
    save_file(weights, path)
    with pytest.raises(UserError, match=r"lacks 1 tensor: logit_scale"):
        load_clip(tmp_path)


def test_tokeniser_and_scale_of_pixels_travel_along(tmp_path: Path) -> None:
    from transformers import CLIPImageProcessorPil

    tokenizer = train_tokenizer(TEXTS * 3, VOCABULARY, MAX_LENGTH)
    save_clip(CLIPParts(tiny_clip(eos_id=tokenizer.eos_id), tokenizer, SIGNED), tmp_path)
    parts, theirs = load_clip(tmp_path), CLIPTokenizer.from_pretrained(tmp_path)
    prompts = ["a red cat", "", "빨간 하트 " * 20]
    expected = theirs(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert parts.tokenizer is not None
    assert torch.equal(parts.tokenizer.encode(prompts), expected)
    assert parts.network.config.eos_id == theirs.eos_token_id
    assert TheirModel.from_pretrained(tmp_path).config.text_config.bos_token_id == theirs.bos_token_id
    pixels = torch.randint(0, 256, (3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    found = parts.pixels(pixels[None])
    processed = CLIPImageProcessorPil.from_pretrained(tmp_path)(pixels.numpy(), return_tensors="pt").pixel_values
    torch.testing.assert_close(found, processed, rtol=0, atol=1e-6)
    assert float(found.min()) < -0.9


def test_a_tokeniser_of_another_model_is_refused(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS * 3, VOCABULARY, MAX_LENGTH)
    save_clip(CLIPParts(tiny_clip(eos_id=5), tokenizer, SIGNED), tmp_path)
    with pytest.raises(UserError, match=f"eos_token_id is 5, but the tokeniser ends with {tokenizer.eos_id}"):
        load_clip(tmp_path)
