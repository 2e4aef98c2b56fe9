"""CLIP scores: the cosine's two scales, streams, and what needs a tokeniser. Parity with transformers is in parity."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.evaluation.clip_extractor import CLIPExtractor
from latentbrush.evaluation.clip_score import CLIPScorer, CLIPScores

pytestmark = pytest.mark.capability("clip-score")
CAPTIONS = ["a red heart", "a blue heart", "a dog", "pizza", "a red heart"]


@pytest.fixture(scope="module")
def scorer() -> CLIPScorer:
    return CLIPScorer(CLIPExtractor())


def some_pictures(count: int = 5, side: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def test_both_scales() -> None:
    scores = CLIPScores(torch.tensor([0.4, -0.2], dtype=torch.float64), 1)
    assert scores.hessel.tolist() == pytest.approx([1.0, 0.0])
    assert scores.percent.tolist() == pytest.approx([40.0, -20.0])
    told = scores.to_json()
    assert told == {"pictures": 2, "clip_score": pytest.approx(10), "hessel": pytest.approx(0.5), "captions_cut": 1}


def test_a_stream_is_the_whole(scorer: CLIPScorer) -> None:
    pictures = some_pictures()
    whole = scorer.score([(pictures, CAPTIONS)])
    parts = scorer.score((pictures[i : i + 2], CAPTIONS[i : i + 2]) for i in (0, 2, 4))
    torch.testing.assert_close(parts.cosines, whole.cosines, rtol=0, atol=1e-6)
    assert whole.cosines.abs().max() <= 1 + 1e-6
    assert whole.cut == 0


def test_a_picture_is_nearest_to_its_own_caption(scorer: CLIPScorer) -> None:
    """A red disc is no dog: what the shipped CLIP was trained for shows in its score."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    disc = ((x**2 + y**2) < 0.8)[None].expand(3, 32, 32)
    red = torch.where(disc, torch.tensor([220, 30, 40]).view(3, 1, 1), 255).to(torch.uint8)
    names = ["red circle", "dog", "flag: France"]
    cosines = scorer.cosines(red.expand(3, 3, 32, 32), names)
    assert cosines.argmax() == 0


def test_long_captions_are_counted(scorer: CLIPScorer) -> None:
    longer = " ".join(["heart dog pizza"] * 30)
    assert scorer.score([(some_pictures(2), ["a dog", longer])]).cut == 1


def test_the_prefix_is_read(scorer: CLIPScorer) -> None:
    prefixed = CLIPScorer(scorer.extractor, "A photo depicts ")
    pictures = some_pictures(1)
    torch.testing.assert_close(
        prefixed.cosines(pictures, ["a dog"]), scorer.cosines(pictures, ["A photo depicts a dog"])
    )
    assert prefixed.cosines(pictures, ["a dog"]) != scorer.cosines(pictures, ["a dog"])


def test_what_cannot_be_scored_is_refused(scorer: CLIPScorer) -> None:
    with pytest.raises(UserError, match="5 pictures and 4 captions; give each picture one"):
        scorer.cosines(some_pictures(), CAPTIONS[:4])
    with pytest.raises(UserError, match="no picture to score"):
        scorer.score([])
    wordless = CLIPExtractor()
    wordless.parts = replace(wordless.parts, tokenizer=None)
    with pytest.raises(UserError, match="clip emoji-clip has no tokeniser"):
        CLIPScorer(wordless)
