"""How a prompt is cut into tokens, told so that people can read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from latentbrush.conditioning.tokenizer import END_OF_WORD, Piece, Tokenizer

__all__ = ["SpelledToken", "Spelling", "spell"]


@dataclass(frozen=True)
class SpelledToken:
    """A token of a prompt: `piece`, its bytes as text, with `</w>` where it ends a word, and the `text` of
    the prompt that it stands for, from `start` to before `end`.

    Bytes that are no whole character stand in `piece` as <f0 9f>. A character the vocabulary has no token
    for takes several; then they share one `text`, and this is the `part`-th, from 1, of its `parts`.
    """

    id: int
    piece: str
    text: str
    start: int
    end: int
    part: int = 1
    parts: int = 1


@dataclass(frozen=True)
class Spelling:
    """A prompt as a text tower reads it: `ids`, begin, end and padding included, always as many.

    `tokens`: all of the prompt; of these the first `limit` fit in. `left_out`: the prompt's end that does not.
    """

    tokens: tuple[SpelledToken, ...]
    ids: tuple[int, ...]
    limit: int
    left_out: str

    @property
    def fitting(self) -> tuple[SpelledToken, ...]:
        return self.tokens[: self.limit]


def spell(tokenizer: Tokenizer, prompt: str) -> Spelling:
    """All tokens of a prompt, also those that do not fit."""
    tokens = []
    for group in _sharing(tokenizer.pieces(prompt)):
        start, end = group[0].start, max(piece.end for piece in group)
        for i, piece in enumerate(group, 1):
            shown = _legible(tokenizer, piece.id)
            tokens.append(SpelledToken(piece.id, shown, prompt[start:end], start, end, i, len(group)))
    (ids,) = tokenizer.encode([prompt]).tolist()
    return Spelling(tuple(tokens), tuple(ids), tokenizer.max_length - 2, tokenizer.cut(prompt))


def _sharing(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Runs of tokens that stand for the same characters; most are alone."""
    groups: list[list[Piece]] = []
    for piece in pieces:
        if groups and piece.start < groups[-1][-1].end:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def _byte_letters() -> dict[str, int]:
    """The letters by which byte-level vocabularies spell bytes: printable ones by themselves, the others,
    in order, by the letters from U+0100 on (Radford et al. 2019, GPT-2)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTES = _byte_letters()


def _legible(tokenizer: Tokenizer, index: int) -> str:
    """A token's own text. Special and other added tokens are not spelt in bytes, but as they are."""
    token = tokenizer.id_to_token(index)
    assert token is not None
    if token in {str(added.content) for added in tokenizer.added}:
        return token
    word = token.removesuffix(END_OF_WORD)
    if not all(letter in BYTES for letter in word):
        return token
    content = bytes(BYTES[letter] for letter in word)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = f"<{content.hex(' ')}>"
    return text + token[len(word) :]
