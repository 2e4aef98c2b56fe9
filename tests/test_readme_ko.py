"""The Korean README has the English one's commands, code, pictures and structure; test_readme.py runs them."""

from __future__ import annotations

import re

import pytest
from scripts import ROOT

pytestmark = pytest.mark.capability("korean-readme")

ENGLISH, KOREAN = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ko.md"))


def outside_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("language", ["bash", "python"])
def test_commands_and_code_are_the_same(language: str) -> None:
    pattern = rf"```{language}\n(.*?)```"
    blocks = re.findall(pattern, ENGLISH, flags=re.DOTALL)
    assert blocks
    assert re.findall(pattern, KOREAN, flags=re.DOTALL) == blocks


def test_sections_and_tables_are_parallel() -> None:
    """As many sections, of the same level, each with as many paragraphs, blocks and rows."""

    def shape(text: str) -> list[tuple[str, int, int]]:
        sections = re.split(r"^(#+) .*$", text, flags=re.MULTILINE)[1:]
        return [
            (level, len(re.split(r"\n{2,}", body.strip())), body.count("\n|"))
            for level, body in zip(sections[::2], sections[1::2], strict=True)
        ]

    assert shape(KOREAN) == shape(ENGLISH)


def test_names_in_code_type_are_the_same() -> None:
    """Commands, options, files and rooms within the text; in Korean they may stand in another order."""

    def names(text: str) -> set[str]:
        return set(re.findall(r"`([^`]+)`", outside_code(text)))

    assert names(KOREAN) == names(ENGLISH)


def test_links_and_pictures_are_the_same_and_lead_from_one_to_the_other() -> None:
    def targets(text: str) -> list[str]:
        return re.findall(r'(?:src="|\]\()([^")]+)', outside_code(text))

    ours, theirs = targets(KOREAN), targets(ENGLISH)
    assert ours[0] == "README.md"
    assert theirs[0] == "README.ko.md"
    assert ours[1:] == theirs[1:]
    for target in ours:
        assert (ROOT / target).is_file(), target
