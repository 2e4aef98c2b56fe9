"""How tokens are told to people: whole words, bytes that make up a character, and what does not fit."""

from __future__ import annotations

import pytest

from latentbrush.conditioning import Tokenizer, spell, train_tokenizer
from latentbrush.conditioning.tokenizer import BYTES

pytestmark = pytest.mark.capability("token-view")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["a red heart", "하트 heart"] * 4, 560, 12)


def test_words_are_spelt_as_they_are(tokenizer: Tokenizer) -> None:
    spelling = spell(tokenizer, "A  Red heart")
    assert [(token.piece, token.text) for token in spelling.tokens] == [
        ("a</w>", "A"),
        ("red</w>", "Red"),
        ("heart</w>", "heart"),
    ]
    assert [(token.start, token.end, token.parts) for token in spelling.tokens] == [(0, 1, 1), (3, 6, 1), (7, 12, 1)]
    assert list(spelling.ids) == tokenizer.encode(["A  Red heart"])[0].tolist()
    assert (spelling.limit, spelling.left_out, spelling.fitting) == (10, "", spelling.tokens)


def test_korean_is_legible(tokenizer: Tokenizer) -> None:
    (token,) = spell(tokenizer, "하트").tokens
    assert (token.piece, token.text) == ("하트</w>", "하트")


@pytest.mark.parametrize("letter", ["🎨", "뷁", "é"])
def test_tokens_that_share_a_character_are_counted(tokenizer: Tokenizer, letter: str) -> None:
    content = letter.encode()
    tokens = spell(tokenizer, f"red {letter}").tokens[1:]
    assert [token.piece.removesuffix("</w>") for token in tokens] == [f"<{byte:02x}>" for byte in content]
    assert tokens[-1].piece.endswith("</w>")
    assert [(token.part, token.parts) for token in tokens] == [(i + 1, len(content)) for i in range(len(content))]
    assert {(token.text, token.start, token.end) for token in tokens} == {(letter, 4, 5)}


def test_neighbours_do_not_share(tokenizer: Tokenizer) -> None:
    assert [token.parts for token in spell(tokenizer, "뷁뷁").tokens] == [3] * 6


def test_what_does_not_fit_is_told_and_listed(tokenizer: Tokenizer) -> None:
    spelling = spell(tokenizer, "a red heart 1 2 3 4 5 6 7 8 9")
    assert (len(spelling.tokens), len(spelling.fitting), len(spelling.ids)) == (12, 10, 12)
    assert spelling.fitting[-1].text == "7"
    assert spelling.left_out == "8 9"


def test_special_tokens_are_not_spelt_in_bytes(tokenizer: Tokenizer) -> None:
    (token, *_) = spell(tokenizer, "<|endoftext|> red").tokens
    assert (token.id, token.piece) == (tokenizer.eos_id, "<|endoftext|>")


def test_every_byte_has_its_letter(tokenizer: Tokenizer) -> None:
    assert sorted(BYTES.values()) == list(range(256))
    assert all(letter in tokenizer.vocab for letter in BYTES)
    # The vocabulary's own spelling, by the library that splits prompts into bytes.
    for letter in ("é", "한", "\x1b", "ÿ"):
        tokens = [tokenizer.id_to_token(piece.id) for piece in tokenizer.pieces(letter)]
        spelt = "".join(token.removesuffix("</w>") for token in tokens if token)
        assert bytes(BYTES[sign] for sign in spelt) == letter.encode()
