"""Tables show what users gave as it is."""

from __future__ import annotations

import pytest

from latentbrush.cli.tables import print_table, shown


def test_cells_are_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([("[red]heart[/red]", "1"), ("[/]", "20")], columns=("name", "count"), right=("count",))
    header, _, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "count"]
    assert first.split() == ["[red]heart[/red]", "1"]
    assert second.split() == ["[/]", "20"]
    assert len(first) == len(second)  # aligned on the right


def test_long_cells_are_folded_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([("name", "x" * 200)])
    assert capsys.readouterr().out.count("x") == 200


def test_what_cannot_be_seen_is_escaped() -> None:
    assert shown("하트 é") == "하트 é"
    assert shown("\x1b[31m") == r"'\x1b[31m'"
    assert shown("\u200d") == r"'\u200d'"
