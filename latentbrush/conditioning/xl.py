"""Stable Diffusion XL's conditioning: two text towers, and numbers beside the words (Podell et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from latentbrush.conditioning.text import TextConditioner, check_tokenizer
from latentbrush.conditioning.tokenizer import Tokenizer
from latentbrush.errors import UserError
from latentbrush.nn.clip import CLIPTextModel, ProjectedTextModel
from latentbrush.nn.condition import Condition

__all__ = ["MicroNumbers", "XLTextConditioner", "count_micro"]

AESTHETIC, TARGET = 5, 6
"""How many numbers the refiner takes, and how many the base."""


def count_micro(added_width: int | None, micro_width: int, pooled_width: int | None) -> int:
    """How many numbers a UNet takes beside the words, 0 for none: what a pooled text leaves of `added_width`.

    UserError, with the numbers, unless they are the base's or the refiner's, each `micro_width` wide.
    """
    if added_width is None and pooled_width is None:
        return 0
    if added_width is None or pooled_width is None:
        raise UserError(
            f"the UNet adds a width of {added_width or 0} to its time, the text towers pool {pooled_width or 0}; "
            "Stable Diffusion XL has both, earlier ones neither; take both from one model"
        )
    for count in (AESTHETIC, TARGET):
        if pooled_width + count * micro_width == added_width:
            return count
    raise UserError(
        f"the UNet adds {added_width} to its time, but a pooled text of {pooled_width} and {AESTHETIC} or {TARGET} "
        f"numbers of {micro_width} make {pooled_width + AESTHETIC * micro_width} or "
        f"{pooled_width + TARGET * micro_width}; take both from one model"
    )


class XLTextConditioner(nn.Module):
    """tau of Stable Diffusion XL: the states before the last layer of two towers, side by side, and the pooled
    vector of the second (section 2.1).

    `first`: None in the refiner, which has the second tower alone. `zero_empty`: an empty negative prompt is all
    zeros instead of the towers' states (force_zeros_for_empty_prompt). UserError where tokenisers and towers do
    not fit together.
    """

    def __init__(
        self,
        first: TextConditioner | None,
        tokenizer: Tokenizer,
        encoder: ProjectedTextModel,
        *,
        zero_empty: bool = True,
    ) -> None:
        super().__init__()
        check_tokenizer(tokenizer, encoder.config.text)
        if first is not None and first.tokenizer.max_length != tokenizer.max_length:
            raise UserError(
                f"the tokenisers write {first.tokenizer.max_length} and {tokenizer.max_length} tokens, and their "
                "states lie side by side; take both from one model"
            )
        eos = encoder.config.eos_id
        if eos not in (None, tokenizer.eos_id):
            raise UserError(
                f"the second text tower's eos_token_id is {eos}, but its tokeniser ends with {tokenizer.eos_id}; "
                "take both from one model"
            )
        self.first, self.tokenizer, self.encoder = first, tokenizer, encoder
        self.zero_empty = zero_empty

    @property
    def width(self) -> int:
        """Of the context: of both towers together."""
        return self.encoder.config.text.width + (0 if self.first is None else self.first.width)

    @property
    def pooled_width(self) -> int | None:
        """Of the vector for the whole text."""
        return self.encoder.config.projection

    @property
    def device(self) -> torch.device:
        return self.encoder.text_projection.weight.device

    def forward(self, prompts: Sequence[str]) -> Condition:
        """B prompts -> context (B, max_length, width) and pooled (B, pooled_width), in the towers' dtype."""
        context, pooled = self.encoder(self.tokenizer.encode(prompts).to(self.device))
        if self.first is not None:
            assert isinstance(self.first.encoder, CLIPTextModel)
            beside, _ = self.first.encoder.states(self.first.tokenizer.encode(prompts).to(self.device))
            context = torch.cat([beside, context], dim=-1)
        return Condition(context=context, pooled=pooled)

    def negative(self, prompts: Sequence[str]) -> Condition:
        """As `forward`, for what to move away from; '' is nothing in particular."""
        condition: Condition = self(prompts)
        if not self.zero_empty:
            return condition
        empty = torch.tensor([not prompt for prompt in prompts], device=self.device)
        assert condition.pooled is not None
        return replace(
            condition,
            context=condition.context.masked_fill(empty[:, None, None], 0.0),
            pooled=condition.pooled.masked_fill(empty[:, None], 0.0),
        )

    def cut(self, prompt: str) -> str:
        """The end of a prompt that the towers will not see, '' if they see it all."""
        return self.tokenizer.cut(prompt)


@dataclass(frozen=True)
class MicroNumbers:
    """What Stable Diffusion XL is told beside the words (section 2.2). Sizes are (width, height), in pixels.

    `original`: of the training picture before it was scaled; small ones make blurred pictures. `crop`: what was
    cut off at the left and above; (0, 0) centres. `target`: what it was scaled to, as the base is told.
    `aesthetic`: about 1 to 10, which the refiner is told instead.
    """

    original: tuple[int, int]
    crop: tuple[int, int]
    target: tuple[int, int]
    aesthetic: float

    def tensor(self, count: int, batch: int) -> Tensor:
        """`count` numbers for each of a batch: float32 (batch, count), heights before widths.

        5 end with the aesthetic score, 6 with the target size; ValueError for other counts.
        """
        numbers: list[float] = [*self.original[::-1], *self.crop[::-1]]
        if count == AESTHETIC:
            numbers.append(self.aesthetic)
        elif count == TARGET:
            numbers += self.target[::-1]
        else:
            raise ValueError(f"{count} numbers beside the words are unknown; {AESTHETIC} or {TARGET} are known")
        return torch.tensor(numbers, dtype=torch.float32).expand(batch, count)
