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


def test_both_scales() -> None:
    scores = CLIPScores(torch.tensor([0.4, -0.2], dtype=torch.float64), 1)
    assert scores.hessel.tolist() == pytest.approx([1.0, 0.0])
    assert scores.percent.tolist() == pytest.approx([40.0, -20.0])


def cosines(scorer: CLIPScorer, pictures: Tensor, captions: list[str]) -> Tensor:
    return (scorer.texts(captions).double() * scorer.extractor(pictures).pooled.double()).sum(1)


def test_captions_have_length_1_whatever_is_beside_them(scorer: CLIPScorer) -> None:
    whole = scorer.texts(CAPTIONS)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(5))
    parts = torch.cat([scorer.texts(CAPTIONS[i : i + 2]) for i in (0, 2, 4)])
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)


def test_a_picture_is_nearest_to_its_own_caption(scorer: CLIPScorer) -> None:
    """A red disc is no dog: what the shipped CLIP was trained for shows in its score."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    disc = ((x**2 + y**2) < 0.8)[None].expand(3, 32, 32)
    red = torch.where(disc, torch.tensor([220, 30, 40]).view(3, 1, 1), 255).to(torch.uint8)
    names = ["red circle", "dog", "flag: France"]
    assert cosines(scorer, red.expand(3, 3, 32, 32), names).argmax() == 0


def test_the_prefix_is_read(scorer: CLIPScorer) -> None:
    prefixed = CLIPScorer(scorer.extractor, "A photo depicts ")
    torch.testing.assert_close(prefixed.texts(["a dog"]), scorer.texts(["A photo depicts a dog"]))
    assert not torch.equal(prefixed.texts(["a dog"]), scorer.texts(["a dog"]))


def test_a_clip_that_reads_no_captions_is_refused() -> None:
    wordless = CLIPExtractor()
    wordless.parts = replace(wordless.parts, tokenizer=None)
    with pytest.raises(UserError, match="clip emoji-clip has no tokeniser"):
        CLIPScorer(wordless)
