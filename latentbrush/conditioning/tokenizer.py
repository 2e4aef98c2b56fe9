"""CLIP's tokeniser: lower-cased text -> byte-pair codes with `</w>` at word ends (Radford et al. 2021, 2.4).

The rules are those of `transformers.CLIPTokenizer`, to the last token: NFC, runs of white space to one
space, lower case, CLIP's own split into words, byte-level BPE (Sennrich et al. 2016).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend
from torch import Tensor

from latentbrush.conditioning.tokenizer_files import (
    SpecialTokens,
    parse_merges,
    read_tokenizer,
    write_tokenizer,
)
from latentbrush.errors import UserError

__all__ = ["Tokenizer", "train_tokenizer"]

END_OF_WORD = "</w>"
# Digits stand alone, letters form words, everything else runs together; English endings split off.
WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def _backend(model: models.BPE) -> Backend:
    backend = Backend(model)
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return backend


@dataclass(frozen=True)
class Piece:
    """A token of a prompt and the characters [start, end) of it that it stands for."""

    id: int
    start: int
    end: int


class Tokenizer:
    """Prompts -> tokens of a text tower, always `max_length` of them; safe to share between threads.

    `vocab`: token -> id; `merges`: pairs, the most important first; `max_length`: tokens in a prompt,
    begin and end included, at least 3. `special` names four tokens, `added` the tokens that are looked
    for in the prompt before it is split (the special ones among them, with their flags).
    UserError where a special token is in neither.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        max_length: int,
        special: SpecialTokens | None = None,
        added: Sequence[AddedToken] = (),
    ) -> None:
        if max_length < 3:
            raise UserError(
                f"the tokeniser's max_length is {max_length}, but must be at least 3 (begin, a token, end); "
                "correct model_max_length in tokenizer_config.json"
            )
        self.special = SpecialTokens() if special is None else special
        self.max_length = max_length
        self.vocab = dict(vocab)
        self.merges = tuple(merges)
        self._backend = _backend(
            models.BPE(
                vocab=self.vocab,
                merges=list(self.merges),
                unk_token=self.special.unk,
                end_of_word_suffix=END_OF_WORD,
            )
        )
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

    @classmethod
    def from_folder(cls, directory: str | Path, *, positions: int = 77) -> Tokenizer:
        """Read tokenizer.json, or vocab.json and merges.txt, with their configuration files.

        `positions`, those of the text tower, is the length where the folder states none. UserError for
        missing, broken or foreign files.
        """
        files = read_tokenizer(Path(directory))
        return cls(
            files.vocab,
            files.merges,
            max_length=positions if files.max_length is None else files.max_length,
            special=files.special,
            added=files.added,
        )

    def save(self, directory: str | Path) -> None:
        """Write vocab.json, merges.txt and what `transformers.CLIPTokenizer` needs beside them."""
        write_tokenizer(
            Path(directory),
            vocab=self.vocab,
            merges=self.merges,
            special=self.special,
            added={self._id(token.content): token for token in self.added},
            max_length=self.max_length,
        )

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


def train_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int) -> Tokenizer:
    """A vocabulary of our own: 256 bytes, their 256 `</w>` forms, merges, begin and end, in CLIP's order.

    `vocab_size`: at least 514, reached if the texts have so many pairs seen twice. `max_length`: tokens
    in a prompt. Depends only on how often each word occurs. UserError for a smaller `vocab_size`.
    """
    special = SpecialTokens()
    # Sorted by code point, the byte alphabet has the order of CLIP's own vocabulary.
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    base = letters + [letter + END_OF_WORD for letter in letters]
    least = len(base) + 2
    if vocab_size < least:
        raise UserError(f"vocab_size {vocab_size} is below {least}: 256 bytes, their word-end forms, begin and end")
    backend = _backend(models.BPE(end_of_word_suffix=END_OF_WORD))
    # As "special tokens" of the trainer, the base symbols get fixed ids. Left to the trainer, word-end
    # forms would be numbered in the order of a hash table seeded anew in every process, and ties between
    # equally frequent pairs, which ids decide, would fall differently in every run.
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        min_frequency=2,
        special_tokens=base,
        end_of_word_suffix=END_OF_WORD,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    merges = parse_merges(json.loads(backend.to_str())["model"]["merges"])
    tokens = list(dict.fromkeys([*base, *(left + right for left, right in merges)]))
    vocab = {token: i for i, token in enumerate([*tokens, special.bos, special.eos])}
    return Tokenizer(vocab, merges, max_length=max_length, special=special)
