"""What a user names as features: shipped, a folder, a file, or none of these."""

import json

import pytest
import torch

from latentbrush.errors import UserError
from latentbrush.evaluation.clip_extractor import CLIPExtractor
from latentbrush.evaluation.opening import open_extractor
from latentbrush.formats import resolve_clip, resolve_model

pytestmark = pytest.mark.capability("feature-extractors")


def test_the_shipped_clip_by_default_and_by_folder():
    default, named = open_extractor(), open_extractor(str(resolve_clip("emoji-clip")))
    assert isinstance(default, CLIPExtractor)
    assert isinstance(named, CLIPExtractor)
    assert default.identity == named.identity


def test_one_beginning_with_a_tilde_is_below_home(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"folder/config.json is missing"):
        open_extractor("~/folder")


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_what_is_nowhere_is_refused_with_what_there_is(name):
    with pytest.raises(UserError, match=f"features '{name}' are no folder or file; give a shipped CLIP \\(emoji-clip"):
        open_extractor(name)


def test_a_model_that_paints_is_refused():
    with pytest.raises(UserError, match="is a model that paints; give a CLIP's or a vision model's folder"):
        open_extractor(resolve_model("emoji"))


def test_a_folder_of_no_kind_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(UserError, match=r"config.json states no model_type; give a folder of transformers"):
        open_extractor(tmp_path)


def test_a_file_of_other_weights_is_refused(tmp_path):
    torch.save({"a.weight": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"lacks 47\d tensors: .* that FID's Inception .* and holds 1 tensor: a.weight"):
        open_extractor(tmp_path / "weights.pth")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match=r"neither a safetensors file nor one of torch.save"):
        open_extractor(tmp_path / "notes.txt")
