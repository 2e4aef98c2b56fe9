"""CLIP's published vocabulary: tokens that are known of it."""

from __future__ import annotations

import pytest

from latentbrush.conditioning.published import clip_tokenizer

pytestmark = [pytest.mark.capability("tokeniser"), pytest.mark.capability("single-file")]


def test_the_published_tokens() -> None:
    tokenizer = clip_tokenizer()
    assert (tokenizer.vocab_size, len(tokenizer.merges), tokenizer.max_length) == (49408, 48894, 77)
    [row] = tokenizer.encode(["a photo of a cat"]).tolist()
    assert row == [49406, 320, 1125, 539, 320, 2368, *[49407] * 71]
    assert tokenizer.encode(["A  Photo of a CAT"])[0].tolist() == row
    assert clip_tokenizer(pad="!").encode([""])[0].tolist() == [49406, 49407, *[0] * 75]
