"""The study on the made-up world: trained, measured as it learns, and gone on with where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_emoji import make_emoji_folder
from quarters import Quarters

from latentbrush.data.folder import ImageFolder
from latentbrush.errors import UserError
from latentbrush.evaluation import moments
from latentbrush.evaluation.frechet import frechet_distance
from latentbrush.studies.compression import CompressionStudy, factors
from latentbrush.studies.compression.gauge import Gauge
from latentbrush.studies.study import StudyRun
from latentbrush.training import TrainingProgress, stage_of

pytestmark = pytest.mark.capability("studies")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_emoji_folder(tmp_path_factory.mktemp("world") / "emoji")


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells attend where there are 64 of them or fewer; and no group of a norm is a single number."""
    for factor, channels in ((1, (8, 8, 8, 16)), (16, (16, 16))):
        monkeypatch.setitem(factors.CHANNELS, factor, channels)  # type: ignore[arg-type]


def make(world: Path, **options: Any) -> CompressionStudy:
    settings = {"factors": (1, 16), "steps": 4, "stage_steps": 2, "measures": 2, "pictures": 4, **options}
    return CompressionStudy(world, Quarters(), **settings)


class StoppedError(Exception):
    pass


def stop(progress: TrainingProgress) -> None:
    if progress.step == 3:
        raise StoppedError


@pytest.mark.parametrize("factor", [1, 16])
def test_a_stopped_cell_ends_as_one_that_was_not(factor: int, world: Path, tmp_path: Path) -> None:
    study = make(world)
    whole = study.run(factor, tmp_path / "whole")
    with pytest.raises(StoppedError):
        study.run(factor, tmp_path / "parts", stop)
    assert make(world).run(factor, tmp_path / "parts") == whole
    json.dumps(whole, allow_nan=False)
    assert [row["step"] for row in whole["measured"]] == [2, 4]
    tflop = factors.step_flops(study.recipes[factor]) / 1e12
    assert [row["tflop"] for row in whole["measured"]] == pytest.approx([2 * tflop, 4 * tflop])
    assert (whole["stage_tflop"] > 0) == (factor > 1)
    for step in (2, 4):
        kept = [np.load(tmp_path / part / f"fd-{step:06d}.npz")["resampled"] for part in ("whole", "parts")]
        assert kept[0].shape == (100,)
        assert (kept[0] == kept[1]).all()


def test_the_gauge_measures_a_frechet_distance(world: Path, tmp_path: Path) -> None:
    gauge = Gauge(ImageFolder(world), Quarters(), size=32, pictures=4, seed=0)
    pictures = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    reference, own = (moments([Quarters()(part).pooled]) for part in (gauge.train, pictures))
    assert gauge.distance(pictures, tmp_path / "fd.npz") == pytest.approx(frechet_distance(reference, own))
    assert gauge.distance(gauge.originals, tmp_path / "own.npz") < gauge.distance(pictures, tmp_path / "fd.npz")
    captions = ImageFolder(world).select("train").captions
    assert [captions[i] for i in gauge.drawn.tolist()] == gauge.captions
    whole = Gauge(ImageFolder(world), Quarters(), size=32, pictures=len(captions), seed=0)
    assert whole.distance(whole.originals, tmp_path / "all.npz") == pytest.approx(0.0, abs=1e-6)


def test_the_study_and_its_page(world: Path, tmp_path: Path) -> None:
    study = make(world)
    works = {cell.what: cell.work for cell in study.cells()}
    assert works.keys() == {"16x2x2, kl-f16-c16", "3x32x32, pixels"}
    assert list(works.values()) == sorted(works.values())  # the cheap one first
    assert study.rate() > 0
    run = StudyRun(study, tmp_path / "s", resume=False)
    run.begin()
    assert run.write().page.lead == "Nothing has been trained yet."
    for cell in study.cells():
        run.do(cell)
    found = run.write()
    assert sorted(path.name for path in (tmp_path / "s").glob("*.png")) == ["compute.png", "steps.png"]
    assert "LDM-16 before LDM-1" in (tmp_path / "s/index.html").read_text()
    sheets = found.page.sections[4].items
    assert len(sheets) == 3  # a sentence, a sheet for each
    cells = json.loads((tmp_path / "s/study.json").read_text())["cells"]
    assert cells["ldm-1"]["reconstruction_fd"] < cells["ldm-16"]["reconstruction_fd"]
    # A zoo's first stages may be taken: here those of this study, laid out as a zoo.
    zoo = tmp_path / "zoo" / "cells" / "kl-f16-c16"
    zoo.mkdir(parents=True)
    (tmp_path / "s/cells/ldm-16/first-stage").rename(zoo / "run")
    taken = make(world, factors=(16,), zoo=tmp_path / "zoo")
    again = taken.run(16, tmp_path / "again")
    assert again["stage_tflop"] is None
    assert again["measured"] == cells["ldm-16"]["measured"]
    assert taken.settings()["first_stages"].keys() == {"16"}
    assert taken.cells()[0].work < works["16x2x2, kl-f16-c16"]


def test_what_it_refuses(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="10 pictures are asked for; choose from 2 to 9"):
        make(world, pictures=10)
    with pytest.raises(UserError, match="5 measurements of 4 steps; choose from 1 to 4"):
        make(world, measures=5)
    with pytest.raises(UserError, match="0 steps of a first stage"):
        make(world, stage_steps=0)
    with pytest.raises(UserError, match="has not trained kl-f16-c16"):
        make(world, zoo=tmp_path)
    with pytest.raises(UserError, match="first_stage null would train in pixels"):
        stage_of(make(world).recipes[1])
