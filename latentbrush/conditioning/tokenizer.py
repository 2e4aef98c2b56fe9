"""CLIP's tokeniser: lower-cased text -> byte-pair codes with `</w>` at word ends (Radford et al. 2021, 2.4).

The rules are those of `transformers.CLIPTokenizer`, to the last token: NFC, runs of white space to one
space, lower case, CLIP's own split into words, byte-level BPE (Sennrich et al. 2016).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from latentbrush.conditioning.prompt_tokenizer import PromptTokenizer
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


def _byte_letters() -> dict[str, int]:
    """The letters by which byte-level vocabularies spell bytes: printable ones by themselves, the others,
    in order, by the letters from U+0100 on (Radford et al. 2019, GPT-2)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTES = _byte_letters()


class Tokenizer(PromptTokenizer):
    """CLIP's. `vocab`: token -> id; `merges`: pairs, the most important first; the rest as `PromptTokenizer` has it."""

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        max_length: int,
        special: SpecialTokens | None = None,
        added: Sequence[AddedToken] = (),
    ) -> None:
        special = SpecialTokens() if special is None else special
        self.merges = tuple(merges)
        backend = _backend(
            models.BPE(
                vocab=dict(vocab),
                merges=list(self.merges),
                unk_token=special.unk,
                end_of_word_suffix=END_OF_WORD,
            )
        )
        super().__init__(backend, dict(vocab), max_length=max_length, special=special, added=added)

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

    def legible(self, index: int) -> str:
        """A token's own text. Special and other added tokens are not spelt in bytes, but as they are."""
        token = super().legible(index)
        if token in {str(added.content) for added in self.added}:
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
