"""What a user says -> Condition: the tokeniser and the text tower behind it, or the number of a class."""

from latentbrush.conditioning.inpainting import Masked, hidden, keep_known, latent_mask
from latentbrush.conditioning.label import LabelConditioner
from latentbrush.conditioning.spelling import SpelledToken, Spelling, spell
from latentbrush.conditioning.task import Task, find_label_task, find_task
from latentbrush.conditioning.text import TextConditioner
from latentbrush.conditioning.tokenizer import Piece, Tokenizer, train_tokenizer
from latentbrush.conditioning.tokenizer_files import SpecialTokens
from latentbrush.conditioning.upscaling import Augmentation, SmallPicture
from latentbrush.conditioning.xl import MicroNumbers, XLTextConditioner, count_micro

__all__ = [
    "Augmentation",
    "LabelConditioner",
    "Masked",
    "MicroNumbers",
    "Piece",
    "SmallPicture",
    "SpecialTokens",
    "SpelledToken",
    "Spelling",
    "Task",
    "TextConditioner",
    "Tokenizer",
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
