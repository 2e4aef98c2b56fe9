"""`latentbrush study rate-distortion` with a tiny model on a made-up world."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_emoji import make_emoji_folder

pytestmark = pytest.mark.capability("rate-distortion")


@pytest.fixture
def studying(model_folder: Path, tmp_path: Path) -> list[str | Path]:
    make_emoji_folder(tmp_path / "data" / "emoji")
    return ["study", "rate-distortion", "--model", model_folder, "--pictures", "3", "--bits-steps", "3"]


def test_page_plots_and_figures_are_written(run: Callable[..., Any], studying: list[str | Path]) -> None:
    outcome = run(*studying, "--out", "new")
    assert outcome.code == 0
    assert outcome.out.endswith("new/index.html\n")
    study = json.loads(Path("new/study.json").read_text(encoding="utf-8"))
    sha256 = hashlib.sha256((Path(studying[3]) / "unet/diffusion_pytorch_model.safetensors").read_bytes()).hexdigest()
    assert study["weights"]["unet/diffusion_pytorch_model.safetensors"] == sha256
    assert (study["steps"], study["pictures"], study["size"]) == (3, 3, 8)
    assert len(study["cells"]) == 6
    again = run(*studying, "--out", "new", "--resume")
    assert (again.code, again.out) == (0, "new/index.html\n")


def test_the_plan_writes_nothing(run: Callable[..., Any], studying: list[str | Path]) -> None:
    outcome = run(*studying, "--out", "new", "--plan")
    assert outcome.code == 0
    assert "picture-calls" in outcome.out
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--bits-steps", "1"), "a bound of 1 steps; choose from 2 to 1000"),
        (("--pictures", "0"), "0 pictures are asked for; at least 2 are needed"),
        (("--data", "nowhere"), "nowhere is not a folder"),
    ],
)
def test_what_it_refuses(
    options: tuple[str, ...], told: str, refused: Callable[..., str], studying: list[str | Path]
) -> None:
    assert told in refused(*studying, "--out", "new", *options)
    assert not Path("new").exists()
