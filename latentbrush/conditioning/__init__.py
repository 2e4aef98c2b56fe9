"""What a user says -> Condition: the tokeniser and the text tower behind it."""

from latentbrush.conditioning.spelling import SpelledToken, Spelling, spell
from latentbrush.conditioning.text import TextConditioner
from latentbrush.conditioning.tokenizer import Piece, Tokenizer, train_tokenizer
from latentbrush.conditioning.tokenizer_files import SpecialTokens

__all__ = [
    "Piece",
    "SpecialTokens",
    "SpelledToken",
    "Spelling",
    "TextConditioner",
    "Tokenizer",
    "spell",
    "train_tokenizer",
]
