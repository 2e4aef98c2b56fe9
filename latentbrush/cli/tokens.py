"""`latentbrush tokens`: how a prompt is cut, and what of it the model does not read."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from latentbrush.cli.tables import print_table, shown
from latentbrush.errors import UserError
from latentbrush.request import ImageRequest, ModelRequest

if TYPE_CHECKING:  # conditioning imports torch
    from latentbrush.conditioning import PromptTokenizer, Spelling

__all__ = ["tokens"]


def tokens(
    prompt: Annotated[str, typer.Argument(help="What you mean to paint.")],
    model: Annotated[str, typer.Option(help="A shipped model's name, a diffusers folder, or a single file.")] = "emoji",
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON, with all ids.")] = False,
) -> None:
    """Show into which tokens a model cuts PROMPT, and what does not fit."""
    request = ImageRequest(prompt=prompt, model=ModelRequest(name=model))
    if not prompt.strip():
        raise UserError("the prompt is empty, so there is nothing to cut; give at least a word")
    from latentbrush.conditioning import spell
    from latentbrush.formats import load_tokenizer

    tokenizer = load_tokenizer(request.model.name)
    spelling = spell(tokenizer, prompt)
    if as_json:
        count = {"prompt": prompt, "count": len(spelling.tokens)}
        print(json.dumps({**count, **asdict(spelling)}, indent=2, ensure_ascii=False))
    else:
        _print(tokenizer, spelling)


def _print(tokenizer: PromptTokenizer, spelling: Spelling) -> None:
    fitting = spelling.fitting
    rows = [("0", str(tokenizer.bos_id), tokenizer.special.bos, "begin")]
    for place, token in enumerate(fitting, 1):
        share = f" ({token.part} of {token.parts})" if token.parts > 1 else ""
        rows.append((str(place), str(token.id), shown(token.piece), shown(token.text) + share))
    after = len(fitting) + 1
    rows.append((str(after), str(tokenizer.eos_id), tokenizer.special.eos, "end"))
    if after + 1 < tokenizer.max_length:
        places = f"{after + 1}-{tokenizer.max_length - 1}"
        rows.append((places, str(tokenizer.pad_id), tokenizer.special.pad, "padding"))
    print_table(rows, columns=("place", "id", "token", "stands for"), right=("place", "id"))
    print(f"\n{len(spelling.tokens)} tokens; {spelling.limit} fit between begin and end")
    if spelling.left_out:
        print(f"left out: {spelling.left_out!r}")
