"""`latentbrush tokens`: a table for people, JSON for programs, and the tokeniser alone is opened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentbrush.formats import load_tokenizer, network

pytestmark = pytest.mark.capability("token-view")


def rows(out: str) -> list[list[str]]:
    """The table's cells; two or more spaces stand between them."""
    lines = out.splitlines()
    table = lines[2 : lines.index("")]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table]


def test_a_prompt_is_shown_token_by_token(run: Callable[..., Any], model_folder: Path) -> None:
    outcome = run("tokens", "a red 뷁", "--model", model_folder)
    assert (outcome.code, outcome.err) == (0, "")
    tokenizer = load_tokenizer(model_folder)
    table = rows(outcome.out)
    assert table[0] == ["0", str(tokenizer.bos_id), "<|startoftext|>", "begin"]
    assert [row[-1] for row in table[-5:-2]] == ["뷁 (1 of 3)", "뷁 (2 of 3)", "뷁 (3 of 3)"]
    assert [row[2] for row in table[-5:-2]] == ["<eb>", "<b7>", "<81></w>"]
    end, padding = table[-2:]
    assert end[2:] == ["<|endoftext|>", "end"]
    assert padding == [f"{int(end[0]) + 1}-15", str(tokenizer.pad_id), "<|endoftext|>", "padding"]
    assert f"\n{len(tokenizer.pieces('a red 뷁'))} tokens; 14 fit between begin and end\n" in outcome.out
    assert "left out" not in outcome.out


def test_what_does_not_fit_is_told(run: Callable[..., Any], model_folder: Path) -> None:
    prompt = " ".join("abcdefghijklmnop")
    outcome = run("tokens", prompt, "--model", model_folder)
    assert outcome.out.endswith("16 tokens; 14 fit between begin and end\nleft out: 'o p'\n")
    assert rows(outcome.out)[-1][-1] == "end"  # no padding


def test_json_has_all_of_it(run: Callable[..., Any], model_folder: Path) -> None:
    prompt = "a [bold]red[/bold] 하트 " + "x " * 14
    outcome = run("tokens", prompt, "--model", model_folder, "--json")
    said = json.loads(outcome.out)
    tokenizer = load_tokenizer(model_folder)
    assert said["ids"] == tokenizer.encode([prompt])[0].tolist()
    assert [token["id"] for token in said["tokens"]] == [piece.id for piece in tokenizer.pieces(prompt)]
    assert (said["prompt"], said["count"], said["limit"]) == (prompt, len(said["tokens"]), 14)
    assert said["left_out"] == tokenizer.cut(prompt) != ""
    for token in said["tokens"]:
        assert token["text"] == prompt[token["start"] : token["end"]]
    assert "하" in outcome.out


def test_nothing_in_a_prompt_is_markup_or_control(run: Callable[..., Any], model_folder: Path) -> None:
    table = rows(run("tokens", "[red] \x1b \u200d", "--model", model_folder).out)
    stands_for = [row[-1] for row in table]
    assert stands_for[1] == "["
    assert "]" in stands_for
    assert r"'\x1b'" in stands_for
    assert any(cell.startswith(r"'\u200d' (1 of ") for cell in stands_for)
    assert all(cell.isprintable() for row in table for cell in row)


def test_networks_are_not_opened(
    run: Callable[..., Any], model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(network, "load_weights")
    monkeypatch.delattr(network, "check_weights")
    shutil.copytree(model_folder, tmp_path / "words", ignore=shutil.ignore_patterns("*.safetensors"))
    assert run("tokens", "red", "--model", "words").code == 0


@pytest.mark.capability("korean-prompts")
def test_the_shipped_model_reads_korean(run: Callable[..., Any]) -> None:
    assert [row[-1] for row in rows(run("tokens", "파란색 하트").out)[1:3]] == ["파란색", "하트"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([""], "the prompt is empty"),
        ([" \n\u3000"], "the prompt is empty"),
        ([], "'prompt'"),
        (["\udcff"], r"\udcff"),
        (["red", "--model", "no/model"], "'no/model' does not exist"),
        (["red", "--model", "half"], "tokeniser's folder"),
        (["red", "--model", "empty"], "no model_index.json"),
        (["red", "blue"], "blue"),
    ],
)
def test_bad_input(
    arguments: list[str], said: str, refused: Callable[..., str], model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copytree(model_folder, tmp_path / "half", ignore=shutil.ignore_patterns("vocab.json", "*.safetensors"))
    assert said in refused("tokens", *arguments)
