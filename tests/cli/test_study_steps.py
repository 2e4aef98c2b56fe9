"""`latentbrush study steps` with a tiny model on a made-up world: what it writes, what it plans, what it refuses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_emoji import make_emoji_folder

pytestmark = pytest.mark.capability("studies")

SMALL = ("--pictures", "3", "--calls", "2,4", "--samplers", "ddim,ddpm,heun-karras", "--converged", "6")


@pytest.fixture
def studying(model_folder: Path, tmp_path: Path) -> list[str | Path]:
    make_emoji_folder(tmp_path / "data" / "emoji")
    return ["study", "steps", "--model", model_folder, *SMALL]


def test_page_plots_and_figures_are_written(run: Callable[..., Any], studying: list[str | Path]) -> None:
    outcome = run(*studying, "--out", "new")
    assert outcome.code == 0
    assert outcome.out.endswith("new/index.html\n")
    names = sorted(path.name for path in Path("new").iterdir())
    files = ["cells", "distance.png", "fd.png", "index.html", "settings.json", "steps", "steps.md", "study.json"]
    assert names == files
    study = json.loads(Path("new/study.json").read_text(encoding="utf-8"))
    sha256 = hashlib.sha256((Path(studying[3]) / "unet/diffusion_pytorch_model.safetensors").read_bytes()).hexdigest()
    assert study["weights"]["unet/diffusion_pytorch_model.safetensors"] == sha256
    assert study["extractor"]["name"] == "clip emoji-clip"
    assert (study["samplers"], study["calls"]) == (["ddim", "ddpm", "heun-karras"], [2, 4])
    assert len(study["cells"]) == 3 + 6
    assert study["cells"]["heun-karras-4"]["calls"] == 3
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
        (("--calls", "5,0"), "--calls '5,0': choose numbers from 1 to 1000"),
        (("--calls", "5,,10"), "'' is not a whole number; give one such as 20"),
        (("--samplers", "ddim,nice"), "sampler 'nice' is unknown; choose one of ddim"),
        (("--pictures", "4000"), "4000 pictures are asked for; choose from 2 to 7"),
        (("--data", "nowhere"), "nowhere is not a folder"),
    ],
)
def test_what_it_refuses(
    options: tuple[str, ...], told: str, refused: Callable[..., str], studying: list[str | Path]
) -> None:
    assert told in refused(*studying, "--out", "new", *options)
