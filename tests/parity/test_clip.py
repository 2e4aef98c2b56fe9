"""CLIP agrees with transformers' in float64.

1e-9 relative to the largest number: both sides compute the same sums.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import randomise
from tiny_clip import SIDE, VISION, VOCABULARY, pictures_of, their_clip, tiny_clip, tokens_of
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from latentbrush.files import read_json
from latentbrush.formats import load_clip
from latentbrush.formats.clip_configs import read_vision_config
from latentbrush.formats.fields import Fields
from latentbrush.formats.keys import CLIP_VISION
from latentbrush.formats.weights import load_weights
from latentbrush.nn import CLIPConfig, CLIPModel, CLIPTextConfig
from latentbrush.nn import CLIPVisionConfig as OurVisionConfig
from latentbrush.nn import CLIPVisionModel as OurVisionModel

pytestmark = pytest.mark.capability("clip-text", "clip-image")


def close(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == expected.dtype == torch.float64
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= 1e-9 * float(expected.abs().max())


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("eos", [VOCABULARY - 1, 530, 2])
def test_embeddings_and_logits(act: str, eos: int, tmp_path: Path) -> None:
    theirs = their_clip(tmp_path, act, eos=eos).double()
    ours = load_clip(tmp_path, dtype=torch.float64).network
    # With eos_token_id 2 the highest id ends a text, wherever a token 2 stands.
    tokens, pictures = tokens_of(end=eos), pictures_of()
    with torch.no_grad():
        expected = theirs(input_ids=tokens, pixel_values=pictures)
        close(ours.encode_text(tokens), expected.text_embeds)
        close(ours.encode_image(pictures), expected.image_embeds)
        close(ours(tokens, pictures), expected.logits_per_text)
        close(ours(tokens, pictures[:2]), expected.logits_per_image[:2].T)


def test_both_conventions_of_the_end_are_told_apart() -> None:
    """With ids above the end token in the text the two pool unlike places."""
    tokens = tokens_of(end=530)
    models = [tiny_clip(eos_id=eos_id) for eos_id in (530, None)]
    with torch.no_grad():
        first, highest = (model.encode_text(tokens) for model in models)
    assert not torch.allclose(first[1], highest[1])
    tokens[tokens > 530] = 5
    with torch.no_grad():
        first, highest = (model.encode_text(tokens) for model in models)
    assert torch.equal(first, highest)


def test_what_stands_behind_the_end_changes_nothing() -> None:
    model = tiny_clip(eos_id=530)
    tokens = tokens_of(end=530)[:2]
    other = tokens.clone()
    other[:, 8:] = 11
    before = tokens.clone()
    before[0, 1] += 1
    with torch.no_grad():
        found, again, changed = (model.encode_text(t) for t in (tokens, other, before))
        assert torch.equal(found, again)
        torch.testing.assert_close(model.encode_text(tokens[:, :6]), found)
    assert not torch.allclose(found[0], changed[0])


@pytest.mark.parametrize("prefix", ["", "vision_model."])
@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_the_image_tower_alone(prefix: str, act: str, tmp_path: Path) -> None:
    theirs = CLIPVisionModel(CLIPVisionConfig(**VISION, hidden_act=act)).eval()
    randomise(theirs, 2)
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    plain = {key.removeprefix("vision_model."): tensor for key, tensor in load_file(path).items()}
    assert "pre_layrnorm.weight" in plain
    written = {prefix + key: tensor for key, tensor in plain.items()}
    written[prefix + "embeddings.position_ids"] = torch.arange(10)[None]
    save_file(written, path)
    ours = OurVisionModel(read_vision_config(Fields(tmp_path / "config.json", read_json(tmp_path / "config.json"))))
    load_weights(ours, tmp_path, "model", CLIP_VISION, torch.float64)
    pictures = pictures_of()
    with torch.no_grad():
        expected = theirs.double()(pictures)
        close(ours.eval()(pictures), expected.pooler_output)
        close(ours.tokens(pictures), expected.last_hidden_state)


def test_pictures_of_another_shape_are_refused(tmp_path: Path) -> None:
    their_clip(tmp_path)
    network = load_clip(tmp_path, dtype=torch.float64).network
    for shape in ((4, 3, SIDE, 16), (4, 3, 16, 16), (4, 1, SIDE, SIDE), (3, SIDE, SIDE)):
        with pytest.raises(ValueError, match=r"takes pictures \(B, 3, 12, 12\), not"):
            network.encode_image(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize("eos_id", [2, -1, VOCABULARY])
def test_an_impossible_end_is_refused(eos_id: int) -> None:
    with pytest.raises(ValueError, match=f"eos_id {eos_id} "):
        tiny_clip(eos_id=eos_id)


def test_openais_model_has_its_parameters() -> None:
    with torch.device("meta"):
        network = CLIPModel(CLIPConfig(text=CLIPTextConfig(), vision=OurVisionConfig(), projection=768))
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 2) == 427.62
