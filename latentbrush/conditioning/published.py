"""The vocabulary of OpenAI's CLIP, which all of Stable Diffusion's text towers read: single files come without one.

`clip_merges.txt.gz` holds its merges (MIT licence, see NOTICE); the tokens and their numbers follow from them.
"""

from __future__ import annotations

import gzip
from pathlib import Path

from tokenizers import pre_tokenizers

from latentbrush.conditioning.tokenizer import END_OF_WORD, Tokenizer
from latentbrush.conditioning.tokenizer_files import SpecialTokens, parse_merges

__all__ = ["clip_tokenizer"]

MERGES = Path(__file__).with_name("clip_merges.txt.gz")


def clip_tokenizer(pad: str = "<|endoftext|>") -> Tokenizer:
    """The published tokeniser of 49,408 tokens, 77 a prompt. `pad`: Stable Diffusion 2 fills up with '!'."""
    merges = parse_merges(gzip.decompress(MERGES.read_bytes()).decode().splitlines())
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = SpecialTokens(pad=pad)
    tokens = [*letters, *(letter + END_OF_WORD for letter in letters), *(left + right for left, right in merges)]
    vocab = {token: i for i, token in enumerate([*tokens, special.bos, special.eos])}
    return Tokenizer(vocab, merges, max_length=77, special=special)
