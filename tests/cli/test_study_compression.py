"""`latentbrush study compression` on a made-up world: its plan, and what it refuses; trained it is in tests/studies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_emoji import make_emoji_folder

pytestmark = pytest.mark.capability("studies")

STUDY = ("study", "compression", "--pictures", "4")


@pytest.fixture(autouse=True)
def world(tmp_path: Path) -> None:
    make_emoji_folder(tmp_path / "data" / "emoji")


def test_the_plan_writes_nothing(run: Callable[..., Any]) -> None:
    outcome = run(*STUDY, "--factors", "8,32", "--steps", "50", "--out", "new", "--plan")
    assert outcome.code == 0
    rows = [line.split() for line in outcome.out.splitlines()]
    assert [row[0] for row in rows if row and row[0].startswith("ldm")] == ["ldm-32", "ldm-8"]
    assert "TFLOP" in outcome.out
    assert "kl-f32-c64" in outcome.out
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--factors", "8,3"), "factor '3' is none of 1, 2, 4, 8, 16, 32"),
        (("--steps", "0"), "0 steps of training; choose at least 1"),
        (("--pictures", "4000"), "4000 pictures are asked for; choose from 2 to 9"),
        (("--zoo", "nowhere"), "the zoo nowhere has not trained kl-f2-c2"),
        (("--data", "nowhere"), "nowhere is not a folder"),
    ],
)
def test_what_it_refuses(options: tuple[str, ...], told: str, refused: Callable[..., str]) -> None:
    assert told in refused(*STUDY, "--out", "new", *options)
    assert not Path("new").exists()
