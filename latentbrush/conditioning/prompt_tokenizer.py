"""What all tokenisers share: a prompt becomes begin, tokens, end and padding, always as many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend
from torch import Tensor

from latentbrush.conditioning.tokenizer_files import SpecialTokens
from latentbrush.errors import UserError

__all__ = ["Piece", "PromptTokenizer"]


@dataclass(frozen=True)
class Piece:
    """A token of a prompt and the characters [start, end) of it that it stands for."""

    id: int
    start: int
    end: int


class PromptTokenizer(ABC):
    """Prompts -> tokens of a text tower, always `max_length` of them; safe to share between threads.

    `backend`: normalises, splits and looks up; `vocab`: its tokens, token -> id; `max_length`: tokens in a prompt,
    begin and end included, at least 3. `special` names four tokens, `added` the tokens that are looked for in the
    prompt before it is split (the special ones among them, with their flags).
    UserError where a special token is in neither.
    """

    def __init__(
        self,
        backend: Backend,
        vocab: dict[str, int],
        *,
        max_length: int,
        special: SpecialTokens,
        added: Sequence[AddedToken] = (),
    ) -> None:
        if max_length < 3:
            raise UserError(
                f"the tokeniser's max_length is {max_length}, but must be at least 3 (begin, a token, end); "
                "correct model_max_length in tokenizer_config.json"
            )
        self._backend, self.vocab, self.max_length, self.special = backend, vocab, max_length, special
        self.added = self._add(added)
        self.bos_id, self.eos_id, self.pad_id = (
            self._id(token) for token in (self.special.bos, self.special.eos, self.special.pad)
        )

    def _add(self, added: Sequence[AddedToken]) -> tuple[AddedToken, ...]:
        """Make `added` and the special tokens findable in prompts; the special ones must have an id."""
        present = {str(token.content) for token in added}
        known = present | self.vocab.keys()
        for token in self.special.names():
            if token not in known:
                raise UserError(
                    f"the special token {token!r} is not among the {len(self.vocab)} of the vocabulary; "
                    "name one that is in tokenizer_config.json"
                )
        named = dict.fromkeys(token for token in self.special.names() if token not in present)
        everything = (*added, *(AddedToken(token, special=True) for token in named))
        self._backend.add_tokens(list(everything))
        return everything

    @abstractmethod
    def save(self, directory: str | Path) -> None:
        """Write its files, as transformers reads them; makes the folder."""

    @property
    def vocab_size(self) -> int:
        """One above the largest token id: the least number of rows of an embedding table."""
        return 1 + max(self._backend.get_vocab(with_added_tokens=True).values())

    def token_to_id(self, token: str) -> int | None:
        """The id of one entry of the vocabulary, None if it is none."""
        index: int | None = self._backend.token_to_id(token)
        return index

    def id_to_token(self, index: int) -> str | None:
        """The entry of the vocabulary with an id, as the files spell it; None if there is none."""
        token: str | None = self._backend.id_to_token(index)
        return token

    def legible(self, index: int) -> str:
        """A token's own text, for people."""
        token = self.id_to_token(index)
        assert token is not None
        return token

    def _id(self, token: str) -> int:
        index = self.token_to_id(token)
        assert index is not None
        return index

    def pieces(self, prompt: str) -> list[Piece]:
        """All tokens of a prompt, without begin, end and padding, however many there are."""
        encoding = self._backend.encode(prompt, add_special_tokens=False)
        return [Piece(i, *span) for i, span in zip(encoding.ids, encoding.offsets, strict=True)]

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """begin, tokens, end, padding: (B, max_length) int64. What does not fit is cut, the end is kept."""
        if isinstance(prompts, str):
            raise TypeError("encode takes a sequence of prompts, not one string: encode([prompt])")
        rows = []
        for prompt in prompts:
            ids = self._backend.encode(prompt, add_special_tokens=False).ids[: self.max_length - 2]
            row = [self.bos_id, *ids, self.eos_id]
            rows.append(row + [self.pad_id] * (self.max_length - len(row)))
        return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), self.max_length)

    def cut(self, prompt: str) -> str:
        """The end of a prompt that `encode` leaves out, '' if it all fits."""
        rest = self.pieces(prompt)[self.max_length - 2 :]
        return prompt[rest[0].start :] if rest else ""
