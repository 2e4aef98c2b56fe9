"""Text conditioning: prompts -> token embeddings, through the tokeniser and the text tower (LDM, 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from latentbrush.conditioning.prompt_tokenizer import PromptTokenizer
from latentbrush.errors import UserError
from latentbrush.nn.bert import LDMBertConfig, LDMBertModel
from latentbrush.nn.clip import CLIPTextConfig, CLIPTextModel
from latentbrush.nn.condition import Condition

__all__ = ["TextConditioner", "check_tokenizer"]


class TextConditioner(nn.Module):
    """tau: a tokeniser and the tower that reads its tokens.

    UserError unless the tower has an embedding for every token and a position for every place.
    """

    def __init__(self, tokenizer: PromptTokenizer, encoder: CLIPTextModel | LDMBertModel) -> None:
        super().__init__()
        check_tokenizer(tokenizer, encoder.config)
        self.tokenizer = tokenizer
        self.encoder = encoder

    @property
    def reads_bert(self) -> bool:
        """Is it LDM's own, which reads BERT's word pieces?"""
        return isinstance(self.encoder, LDMBertModel)

    @property
    def width(self) -> int:
        """Of the context."""
        return self.encoder.config.width

    @property
    def pooled_width(self) -> int | None:
        """Of the vector for the whole text, which this has not."""
        return None

    @property
    def device(self) -> torch.device:
        return self.encoder.embeddings.token_embedding.weight.device

    def forward(self, prompts: Sequence[str]) -> Condition:
        """B prompts -> their condition, context (B, max_length, width), in the tower's dtype.

        The end of an over-long prompt is left out; `cut` says what.
        """
        tokens = self.tokenizer.encode(prompts).to(self.device)
        return Condition(context=self.encoder(tokens))

    def negative(self, prompts: Sequence[str]) -> Condition:
        """As `forward`, for what to move away from; '' is nothing in particular."""
        out: Condition = self(prompts)
        return out

    def cut(self, prompt: str) -> str:
        """The end of a prompt that the tower will not see, '' if it sees it all."""
        return self.tokenizer.cut(prompt)


def check_tokenizer(tokenizer: PromptTokenizer, config: CLIPTextConfig | LDMBertConfig) -> None:
    """UserError unless a tower has an embedding for every token and a position for every place."""
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"the tokeniser knows {tokenizer.vocab_size} tokens, the text tower {config.vocab_size}; "
            "take both from one model"
        )
    if tokenizer.max_length > config.max_positions:
        raise UserError(
            f"the tokeniser's model_max_length {tokenizer.max_length} exceeds the text tower's "
            f"{config.max_positions} positions; take both from one model"
        )
