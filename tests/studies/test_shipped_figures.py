"""The figures on the shipped models' cards, measured again on the drawn emoji world, with fewer seeds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import latentbrush
from latentbrush.data.emoji import EmojiRecord, build_emoji_world
from latentbrush.data.folder import ImageFolder
from latentbrush.evaluation import retrieval_accuracy
from latentbrush.formats import load_clip, shipped_clips, shipped_models
from latentbrush.studies import CompositionStudy

pytestmark = [pytest.mark.slow, pytest.mark.emoji, pytest.mark.capability("composition-accuracy")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, debian_emoji: None) -> ImageFolder:
    directory = tmp_path_factory.mktemp("world") / "emoji"
    build_emoji_world(directory)
    return ImageFolder(directory)


def on_the_card(folder: Path, row: str) -> list[float]:
    """The numbers in the row of a table that begins with `row`."""
    [line] = re.findall(rf"^\| {row} \|(.*)\|$", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", line)]


def test_composition_accuracy_is_the_card_s(world: ImageFolder) -> None:
    study = CompositionStudy(latentbrush.load("emoji", device="cpu"), world, seeds=1)
    study.parts = {"test": study.parts["test"]}
    study.asked = sorted(study.parts["test"])
    score = study.run().scores["test"]
    count, right, *_, lowest, highest, base, attributes, ceiling = on_the_card(
        shipped_models()["emoji"], "held-out, test half"
    )
    assert score.emoji == count
    # One seed lies between the card's four, but for what other machines round otherwise: two of 97 paintings.
    assert lowest - 2.1 <= 100 * score.right.accuracy <= highest + 2.1
    assert 100 * score.right.accuracy == pytest.approx(right, abs=5)
    assert 100 * score.base.accuracy == pytest.approx(base, abs=5)
    assert 100 * score.attributes.accuracy == pytest.approx(attributes, abs=5)
    assert 100 * score.ceiling == pytest.approx(ceiling, abs=1.1)


@pytest.mark.capability("shipped-clip")
def test_retrieval_is_the_card_s(world: ImageFolder) -> None:
    clip, held_out = load_clip("emoji-clip"), world.select("validation")
    assert clip.tokenizer is not None
    names = [EmojiRecord.parse(record).name for record in held_out.records]
    pictures = held_out.load(32)
    drawings = torch.unique(pictures.flatten(1), dim=0, return_inverse=True)[1]
    with torch.inference_mode():
        text = clip.network.encode_text(clip.tokenizer.encode(names))
        image = clip.network.encode_image(clip.pixels(pictures))
    found = retrieval_accuracy(text @ image.T, drawings[:, None] == drawings)
    assert found == pytest.approx(on_the_card(shipped_clips()["emoji-clip"], "held-out, validation half"), abs=0.011)
