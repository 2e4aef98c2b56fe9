"""What a model is told of the pictures that it paints, and of those whose likelihood it is asked for."""

import json
from types import SimpleNamespace

import pytest
from PIL import Image

from latentbrush.conditioning import LabelConditioner
from latentbrush.data.folder import ImageFolder
from latentbrush.errors import UserError
from latentbrush.evaluation.sets import FolderPictures
from latentbrush.studies.measuring import captions_for, said_of

pytestmark = pytest.mark.capability("bits-per-dimension", "fid")
WORDS, CLASSES, NOTHING = (SimpleNamespace(text=text) for text in (None, LabelConditioner(3), LabelConditioner()))


@pytest.fixture
def folder(tmp_path):
    def make(**fields):
        lines = []
        for i in range(4):
            Image.new("RGB", (2, 2)).save(tmp_path / f"{i}.png")
            lines.append(json.dumps({"file_name": f"{i}.png", **{key: of(i) for key, of in fields.items()}}))
        (tmp_path / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
        return ImageFolder(tmp_path)

    return make


def test_a_model_paints_captions_classes_in_turn_or_nothing(folder):
    emoji = folder(text=lambda i: f"caption {i}")
    assert captions_for(WORDS, emoji, None) == [f"caption {i}" for i in range(4)]
    assert captions_for(WORDS, emoji, 2) == ["caption 0", "caption 2"]
    assert captions_for(WORDS, emoji, 6)[4:] == ["caption 0", "caption 1"]
    assert captions_for(CLASSES, emoji, 5) == [0, 1, 2, 0, 1]
    assert captions_for(NOTHING, None, 2) == [None, None]
    with pytest.raises(UserError, match="give --count"):
        captions_for(NOTHING, None, None)
    with pytest.raises(UserError, match="no captions to paint"):
        captions_for(WORDS, None, 2)


def test_real_pictures_are_what_their_records_say_not_classes_in_turn(folder):
    labelled = FolderPictures(folder(text=lambda i: f"caption {i}", label=lambda i: 2 - i % 2))
    assert said_of(WORDS, labelled) == [f"caption {i}" for i in range(4)]
    assert said_of(CLASSES, labelled) == [2, 1, 2, 1]
    assert said_of(NOTHING, labelled) == [None] * 4


@pytest.mark.parametrize(("label", "told"), [("1", "0.png has no label"), (None, "has no label"), (7, "label is 7")])
def test_a_label_that_is_none_is_refused(folder, label, told):
    with pytest.raises(UserError, match=told):
        said_of(CLASSES, FolderPictures(folder(label=lambda i: label)))
