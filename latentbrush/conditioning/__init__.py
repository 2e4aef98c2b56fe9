"""What a user says -> Condition: the tokeniser and the text tower behind it."""

from latentbrush.conditioning.text import TextConditioner
from latentbrush.conditioning.tokenizer import Piece, Tokenizer, train_tokenizer
from latentbrush.conditioning.tokenizer_files import SpecialTokens

__all__ = ["Piece", "SpecialTokens", "TextConditioner", "Tokenizer", "train_tokenizer"]
