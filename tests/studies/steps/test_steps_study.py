"""What a cell keeps is what painting and measuring by hand find; a study that was stopped ends as if it had not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from wordless import wordless_model

from latentbrush.cli.study import carry_out
from latentbrush.data.pixels import to_bytes
from latentbrush.errors import UserError
from latentbrush.evaluation import frechet_distance, moments
from latentbrush.evaluation.bootstrap import frechet_difference, frechet_influences
from latentbrush.model import LatentDiffusion, ModelDefaults
from latentbrush.pipeline import paint
from latentbrush.studies.composition import reconstructed
from latentbrush.studies.steps import StepsStudy
from latentbrush.studies.steps import study as module
from latentbrush.studies.steps.scores import Scores
from latentbrush.studies.study import StudyRun

pytestmark = pytest.mark.capability("studies")

MakeStudy = Callable[..., StepsStudy]


def done(study: StepsStudy, folder: Path) -> dict[str, Any]:
    carry_out(study, folder, plan=False, resume=False)
    return StudyRun(study, folder, resume=True).results()


@pytest.fixture
def in_threes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that do not divide the pictures."""
    monkeypatch.setattr(module, "BATCH", 3)


def test_figures_are_those_of_painting_by_hand(make_study: MakeStudy, tmp_path: Path, in_threes: None) -> None:
    study = make_study(seed=4)
    results = done(study, tmp_path / "s")
    reference = moments([study.extractor(study.train).pooled])
    assert len(study.train) == 9
    goal = None
    for name, way in [("converged", study.converged), *((way.name, way) for way in study.ways)]:
        parts = [
            paint(study.model, study.captions[i:j], list(range(4 + i, 4 + j)), way.request) for i, j in ((0, 3), (3, 5))
        ]
        pixels = torch.cat(parts)
        features = study.extractor(to_bytes(pixels)).pooled
        figures = results[name]
        # A pooled mean may round otherwise in a batch of another size.
        assert figures["fd"] == pytest.approx(frechet_distance(reference, moments([features])), rel=1e-5)
        with np.load(tmp_path / f"s/cells/{name}/fd.npz") as kept:
            np.testing.assert_allclose(kept["features"], features, atol=1e-6)
            _, influences = frechet_influences(torch.from_numpy(kept["features"]), reference)
            # A pooled mean may round otherwise in a batch of another size.
            np.testing.assert_allclose(kept["influences"], influences, rtol=1e-4, atol=1e-7)
            assert np.linalg.norm(kept["influences"]) / 5 == pytest.approx(figures["fd_deviation"])
        unit = (pixels.double() / 2 + 0.5).clamp(0, 1)
        if goal is None:
            goal = unit
        elif way.route.sampler == "euler_ancestral":
            assert (figures["draws"], figures["distance"]) == (True, None)
        else:
            # The converged pictures are kept in 16 bits.
            assert figures["distance"] == pytest.approx(float((unit - goal).square().mean().sqrt()), abs=1e-5)
            assert figures["distance"] > 1e-4


def test_cells_that_kept_resampled_distances_are_read_by_their_features(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study()
    results = done(study, tmp_path)

    def told() -> list[Any]:
        scores = Scores(study, results, tmp_path)
        first, *others = (scores.get(way.route.name, way.budget) for way in study.ways)
        assert first is not None
        return [scores.difference(first, other) for other in others if other is not None]

    now = told()
    assert len(now) == len(study.ways) - 1
    kept = {}
    for way in study.ways[:2]:
        path = tmp_path / f"cells/{way.name}/fd.npz"
        with np.load(path) as file:
            features = file["features"]
        kept[way.name] = frechet_influences(torch.from_numpy(features), study.reference)
        np.savez(path, features=features, resampled=torch.arange(200.0).numpy())
    assert now[0] == frechet_difference(*kept.values())
    assert told() == now


def test_the_floors_are_real_pictures(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(samplers="ddim", budgets=(2,))
    floors = done(study, tmp_path / "s")["floors"]
    features = study.extractor(study.train).pooled
    own = study.drawn.tolist()
    others = [i for i in range(9) if i not in own]
    rebuilt = reconstructed(study.model, study.train[study.drawn])
    whole, drawn = moments([features]), moments([features[own]])
    assert floors["originals"] == pytest.approx(frechet_distance(whole, drawn), rel=1e-6)
    assert floors["apart"] == pytest.approx(frechet_distance(moments([features[others]]), drawn), rel=1e-6)
    expected = frechet_distance(whole, moments([study.extractor(rebuilt).pooled]))
    assert floors["reconstructions"] == pytest.approx(expected, rel=1e-6)
    error = (rebuilt.double() - study.train[own].double()).square().mean().sqrt() / 255
    assert floors["reconstruction_error"] == pytest.approx(float(error))
    names = [record["text"] for record in study.folder.records]
    assert study.captions == [names[i] for i in own]


def test_a_distance_whose_value_is_known(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grey pictures, lighter by 0.1 for every call that is lacking: of -1 to 1 that is 0.05 of 0 to 1."""
    study = make_study(samplers="ddim,heun", budgets=(2, 5))

    def grey(model: Any, captions: list[str], seeds: list[int], request: Any, on_step: Any) -> Tensor:
        calls = next(way.calls for way in (study.converged, study.check, *study.ways) if way.request is request)
        for _ in range(calls):
            on_step(torch.zeros(1), None, None)
        return torch.full((len(captions), 3, 16, 16), 0.1 * (12 - calls) - 0.5)

    monkeypatch.setattr(module, "paint", grey)
    results = done(study, tmp_path / "s")
    for name, calls in {"ddim-2": 2, "ddim-5": 5, "heun-5": 5, "converged-half": 6}.items():
        assert results[name]["calls"] == calls
        assert results[name]["distance"] == pytest.approx(0.05 * (12 - calls), abs=1e-5)


def test_a_network_that_is_asked_otherwise_than_planned_is_an_error(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study()

    def silent(*arguments: Any) -> Tensor:
        return torch.zeros(5, 3, 16, 16)

    monkeypatch.setattr(module, "paint", silent)
    with pytest.raises(ValueError, match="dpmpp_3m-12 asked the network 0 times, its plan says 12"):
        done(study, tmp_path / "s")


def test_stopped_and_resumed_is_as_uninterrupted(make_study: MakeStudy, tmp_path: Path) -> None:
    whole = make_study()
    done(whole, tmp_path / "whole")
    stopped = make_study()
    stopped.extractor.stop_at = 6  # within a painted cell
    with pytest.raises(KeyboardInterrupt):
        carry_out(stopped, tmp_path / "parts", plan=False, resume=False)
    left = StudyRun(make_study(), tmp_path / "parts", resume=True).remaining()
    assert 0 < len(left) < len(whole.cells())
    carry_out(make_study(), tmp_path / "parts", plan=False, resume=True)
    for name in ("study.json", "index.html", "fd.png", "distance.png"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_other_settings_are_another_study(make_study: MakeStudy, tmp_path: Path) -> None:
    StudyRun(make_study(), tmp_path / "s", resume=False).begin()
    StudyRun(make_study(), tmp_path / "s", resume=True)
    for key, options in {
        "seed": {"seed": 1},
        "pictures": {"pictures": 4},
        "samplers": {"samplers": "ddim"},
        "calls": {"budgets": (2, 6)},
        "guidance": {"guidance": 1.0},
        "converged": {"converged": 14},
    }.items():
        with pytest.raises(UserError, match=f"begun otherwise: {key} was"):
            StudyRun(make_study(**options), tmp_path / "s", resume=True)


def test_every_cell_states_its_calls_and_shows_its_pictures(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study()
    cells = {cell.name: cell for cell in study.cells()}
    assert cells["heun-5"].work == 5 * study.ways[3].calls
    assert study.ways[3].name == "heun-5"
    assert cells["converged"].work == 60
    assert study.rate() > 0
    done(study, tmp_path / "s")
    for name in cells:
        if name != "floors":
            with Image.open(tmp_path / f"s/cells/{name}/strip.png") as strip:
                assert strip.size == (5 * 16, 16)
    page = (tmp_path / "s/index.html").read_text(encoding="utf-8")
    assert f"{sum(cell.work for cell in cells.values()):,.0f} picture-calls" in page


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"pictures": 1}, "1 pictures are asked for; choose from 2 to 7, for .* has 9 training pictures"),
        ({"pictures": 8}, "8 pictures are asked for; choose from 2 to 7"),
        ({"samplers": "pndm"}, r"no sampler paints in \(2, 5\) network calls; choose more, such as 5,10,20,50"),
        ({"converged": 1}, "the converged pictures are to take 1 network calls; choose more, such as 500"),
    ],
)
def test_what_cannot_be_measured_is_refused(options: dict[str, Any], told: str, make_study: MakeStudy) -> None:
    with pytest.raises(UserError, match=told):
        make_study(**options)


def test_a_model_that_reads_no_words_is_refused(make_study: MakeStudy) -> None:
    with pytest.raises(UserError, match="the model is for unconditional; give a text-to-image one"):
        make_study(model=wordless_model())


def test_a_model_that_paints_larger_than_the_originals_is_refused(
    make_study: MakeStudy, make_model: Callable[..., LatentDiffusion]
) -> None:
    large = make_model(defaults=ModelDefaults(steps=1, guidance=1.0, width=32, height=32))
    with pytest.raises(UserError, match=r"paints 32x32 pixels, the originals in .* are 16x16"):
        make_study(model=large)
