"""CLIP scores beside the equation with transformers' CLIPModel, tokeniser and pixels' scale, on one folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import MAX_LENGTH, TEXTS, tiny_tokenizer
from tiny_clip import SIDE, VOCABULARY, their_clip
from transformers import CLIPTokenizer

from latentbrush.evaluation.clip_extractor import CLIPExtractor
from latentbrush.evaluation.clip_score import CLIPScorer, CLIPScores
from latentbrush.formats import PixelScale

pytestmark = pytest.mark.capability("clip-score")


def test_scores_are_those_of_transformers(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path, "sd1")
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    theirs = their_clip(tmp_path, eos=tokenizer.eos_token_id)
    assert len(tokenizer) <= VOCABULARY
    draws = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (len(TEXTS), 3, SIDE, SIDE), generator=draws, dtype=torch.uint8)
    tokens = tokenizer(TEXTS, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt")
    scale = PixelScale()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (scale.mean, scale.std))
    with torch.no_grad():
        out = theirs(input_ids=tokens["input_ids"], pixel_values=(pictures / 255 - mean) / std)
    cosines = (out.image_embeds * out.text_embeds).sum(1).double()
    scorer = CLIPScorer(CLIPExtractor(str(tmp_path)))
    found = (scorer.texts(TEXTS).double() * scorer.extractor(pictures).pooled.double()).sum(1)
    scores = CLIPScores(found, 0)
    # float32 towers, the same formulas in another order.
    torch.testing.assert_close(scores.cosines, cosines, rtol=0, atol=2e-6)
    torch.testing.assert_close(scores.hessel, 2.5 * cosines.clamp(min=0), rtol=0, atol=5e-6)
    torch.testing.assert_close(scores.percent, 100 * cosines, rtol=0, atol=2e-4)
