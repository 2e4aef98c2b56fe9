"""How a prompt is cut into tokens, told so that people can read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from latentbrush.conditioning.prompt_tokenizer import Piece, PromptTokenizer

__all__ = ["SpelledToken", "Spelling", "spell"]


@dataclass(frozen=True)
class SpelledToken:
    """A token of a prompt: `piece`, its bytes as text, with `</w>` where it ends a word (BERT's: with `##` where it
    goes on with one), and the `text` of the prompt that it stands for, from `start` to before `end`.

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


def spell(tokenizer: PromptTokenizer, prompt: str) -> Spelling:
    """All tokens of a prompt, also those that do not fit."""
    tokens = []
    for group in _sharing(tokenizer.pieces(prompt)):
        start, end = group[0].start, max(piece.end for piece in group)
        for i, piece in enumerate(group, 1):
            shown = tokenizer.legible(piece.id)
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
