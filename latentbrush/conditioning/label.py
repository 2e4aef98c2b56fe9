"""Conditioning without words: the number of a class, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latentbrush.errors import UserError, short
from latentbrush.nn.class_token import ClassToken
from latentbrush.nn.condition import Condition

__all__ = ["ClassTokenConditioner", "LabelConditioner"]


class LabelConditioner(nn.Module):
    """tau of a model that reads no words: of each picture it is told a label, 0 to `classes` - 1, or nothing at all.

    `classes`: None for a model without any. Its conditions have an empty context, for nothing attends to it.
    `guides`: is there something to be guided away from, which `negative` then tells? Here there is not.
    """

    guides: bool = False

    def __init__(self, classes: int | None = None) -> None:
        super().__init__()
        if classes is not None and classes < 1:
            raise ValueError(f"{classes} classes; needed is at least 1, or None for a model without labels")
        self.classes = classes
        # Nothing to compute with, but it goes wherever the other parts go.
        self.register_buffer("place", torch.empty(0), persistent=False)
        self.place: Tensor

    @property
    def width(self) -> int:
        """Of the context."""
        return 0

    @property
    def pooled_width(self) -> int | None:
        """Of a vector for the whole condition, which this has not."""
        return None

    def forward(self, labels: Sequence[int | None]) -> Condition:
        """B labels, each None in a model without classes -> their condition, context (B, 0, 0).

        UserError for words, and for a label that there is not.
        """
        for label in labels:
            self.check(label)
        context = self.place.new_empty(len(labels), 0, 0)
        if self.classes is None:
            return Condition(context)
        return Condition(context, classes=torch.tensor(labels, device=self.place.device))

    def check(self, label: object) -> None:
        """UserError unless it is what one picture's condition is made of."""
        if self.classes is None:
            if label is not None:
                told = f"the {'label' if isinstance(label, int) else 'prompt'} is {short(label)}"
                raise UserError(f"{told}, but the model knows no classes and no words; leave it out")
            return
        last = self.classes - 1
        if not isinstance(label, int) or not 0 <= label <= last:
            told = "there is no label" if label is None else f"the label is {short(label)}"
            raise UserError(f"{told}, but the model paints one of {last + 1} classes; give a label from 0 to {last}")

    def negative(self, labels: Sequence[int | None]) -> Condition:
        """What to move away from. ValueError, for there is nothing."""
        raise ValueError("a model without words and without an empty class has nothing to be guided away from")

    def cut(self, prompt: str) -> str:
        """The end of a prompt that the model will not see: there is no prompt."""
        return ""


class ClassTokenConditioner(LabelConditioner):
    """tau of LDM's class-conditional models: a label becomes the one token of the context (LDM, section 3.3).

    `guides`: has the table an entry for no class?
    """

    def __init__(self, encoder: ClassToken) -> None:
        super().__init__(encoder.config.classes)
        self.encoder = encoder
        self.guides = encoder.config.empty

    @property
    def width(self) -> int:
        """Of the context."""
        return self.encoder.config.width

    def forward(self, labels: Sequence[int | None], *, empty: bool = False) -> Condition:
        """B labels -> their condition, context (B, 1, width). UserError for words, and for what is no label.

        `empty`: no class, as often.
        """
        for label in labels:
            self.check(label)
        rows = [self.encoder.config.classes] * len(labels) if empty else list(labels)
        return Condition(self.encoder(torch.tensor(rows, device=self.encoder.embedding.weight.device)))

    def negative(self, labels: Sequence[int | None]) -> Condition:
        """No class, as often. ValueError where the table has no entry for it."""
        if not self.guides:
            return super().negative(labels)
        out: Condition = self(labels, empty=True)  # not `forward`: whoever waits for the call moves it to its device
        return out
