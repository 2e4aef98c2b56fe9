"""Where a stage's tokeniser and text tower come from: the captions themselves, or a finished contrastive run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from torch import Tensor

from latentbrush.conditioning import Tokenizer, train_tokenizer
from latentbrush.data.emoji import EmojiRecord
from latentbrush.errors import UserError
from latentbrush.formats import load_clip
from latentbrush.nn import CLIPTextConfig
from latentbrush.training.recipe import TokenizerRecipe

__all__ = ["caption_tokenizer", "pretrained_text"]


def caption_tokenizer(records: Sequence[EmojiRecord], recipe: TokenizerRecipe) -> Tokenizer:
    """A vocabulary of the training captions, English and Korean."""
    texts = [
        text
        for record in records
        for text in (record.name, *record.keywords, record.name_ko or "", *record.keywords_ko)
    ]
    return train_tokenizer(texts, recipe.vocab_size, recipe.max_length)


def pretrained_text(
    directory: Path, text: CLIPTextConfig, recipe: TokenizerRecipe
) -> tuple[Tokenizer, dict[str, Tensor]]:
    """Tokeniser and text tower's weights of the CLIP in `directory`, a contrastive run's model.

    UserError, naming the first field that differs, unless they are such as the recipe describes; dropout,
    which is a way to train and no part of what was learnt, may differ.
    """
    parts = load_clip(directory)
    found = parts.network.config.text
    for name in (field.name for field in fields(text) if field.name != "dropout"):
        _must_agree(directory, f"text.{name}", getattr(text, name), getattr(found, name))
    if parts.tokenizer is None:
        raise UserError(f"text_from {directory} holds no tokeniser; name the model folder of a contrastive run")
    _must_agree(directory, "tokenizer.max_length", recipe.max_length, parts.tokenizer.max_length)
    # Few captions make fewer tokens than the recipe allows: only more are another recipe's.
    if parts.tokenizer.vocab_size > recipe.vocab_size:
        _must_agree(directory, "tokenizer.vocab_size", recipe.vocab_size, parts.tokenizer.vocab_size)
    return parts.tokenizer, parts.network.text_model.state_dict()


def _must_agree(directory: Path, field: str, wanted: object, found: object) -> None:
    if wanted != found:
        raise UserError(
            f"{field} is {wanted!r} in the recipe, but {found!r} in text_from {directory}; make them the same"
        )
