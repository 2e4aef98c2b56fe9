"""What a user says -> Condition: the tokeniser and the text tower behind it, or the number of a class."""

from latentbrush.conditioning.inpainting import Masked, hidden, keep_known, latent_mask
from latentbrush.conditioning.label import ClassTokenConditioner, LabelConditioner
from latentbrush.conditioning.prompt_tokenizer import Piece, PromptTokenizer
from latentbrush.conditioning.spelling import SpelledToken, Spelling, spell
from latentbrush.conditioning.task import Task, find_label_task, find_task
from latentbrush.conditioning.text import TextConditioner
from latentbrush.conditioning.tokenizer import Tokenizer, train_tokenizer
from latentbrush.conditioning.tokenizer_files import SpecialTokens
from latentbrush.conditioning.upscaling import Augmentation, SmallPicture
from latentbrush.conditioning.word_pieces import WordPieceTokenizer
from latentbrush.conditioning.xl import MicroNumbers, XLTextConditioner, count_micro

__all__ = [
    "Augmentation",
    "ClassTokenConditioner",
    "LabelConditioner",
    "Masked",
    "MicroNumbers",
    "Piece",
    "PromptTokenizer",
    "SmallPicture",
    "SpecialTokens",
    "SpelledToken",
    "Spelling",
    "Task",
    "TextConditioner",
    "Tokenizer",
    "WordPieceTokenizer",
    "XLTextConditioner",
    "count_micro",
    "find_label_task",
    "find_task",
    "hidden",
    "keep_known",
    "latent_mask",
    "spell",
    "train_tokenizer",
]
