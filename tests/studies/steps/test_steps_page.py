"""The page says what the figures say, whatever they are: winners, noise, orders, and what contradicts the papers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latentbrush.reporting import Page, Paragraph, Table
from latentbrush.studies.steps import StepsStudy
from latentbrush.studies.steps.claims import CLAIMS
from latentbrush.studies.steps.scores import Scores
from latentbrush.studies.study import Figures

pytestmark = pytest.mark.capability("studies")

MakeStudy = Callable[..., StepsStudy]
COMMON = torch.randn(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
"""How pictures move all distances together, by much more than they differ."""


@pytest.fixture
def told(make_study: MakeStudy, tmp_path: Path) -> Callable[..., tuple[StepsStudy, dict[str, Figures]]]:
    """A study of made-up figures: name of a cell -> (FD, own deviation, distance)."""

    def tell(figures: dict[str, tuple[float, float, float | None]], **options: Any) -> Any:
        study, results = make_study(**options), {}
        calls = {way.name: way.calls for way in study.ways} | {"converged": 12, "converged-half": 6}
        for place, (name, (fd, noise, distance)) in enumerate(figures.items()):
            folder = tmp_path / "cells" / name
            folder.mkdir(parents=True)
            own = torch.randn(100, generator=torch.Generator().manual_seed(place + 1), dtype=torch.float64).numpy()
            np.savez(folder / "fd.npz", features=np.zeros((1, 1)), influences=10 * (COMMON + noise * own))
            Image.new("RGB", (80, 16), (place, 0, 0)).save(folder / "strip.png")
            results[name] = {"calls": calls[name], "fd": fd, "distance": distance}
        return study, results

    return tell


def texts(page: Page) -> str:
    items = [item for section in page.sections for item in section.items]
    return "\n".join([page.lead, *(item.text for item in items if isinstance(item, Paragraph))])


def tables(page: Page) -> list[Table]:
    return [item for section in page.sections for item in section.items if isinstance(item, Table)]


FIGURES = {
    "converged": (1.0, 0.01, None),
    "converged-half": (1.0, 0.01, 0.001),
    "ddim-2": (2.0, 0.01, 0.4),
    "ddim-10": (1.5, 0.01, 0.08),
    "ddpm-2": (2.01, 0.01, None),
    "ddpm-10": (1.2, 0.01, None),
    "deis-2": (3.0, 0.01, 0.4),
    "deis-10": (0.9, 0.01, 0.016),
}
SETTINGS: dict[str, Any] = {"samplers": "ddim,ddpm,deis", "budgets": (2, 10)}


def test_winners_noise_and_contradictions_are_the_figures(told: Any, tmp_path: Path) -> None:
    study, results = told(FIGURES, **SETTINGS)
    page = study.found(results, tmp_path).page
    [winners] = [section for section in page.sections if section.title == "Who wins"]
    assert winners.items[0].rows[0] == ["2", "ddim", "2", "ddpm"]
    assert winners.items[0].rows[1] == ["10", "deis", "0.9", "nobody"]
    # ddim is published as before ddpm, deis as before ddim; at 10 calls the first is made up to be false.
    assert page.lead.endswith(
        "Of 2 published comparisons: 1 found here, too, 0 within noise, 1 contradicted: ddim before ddpm at 10."
    )
    assert "Nearer to the training pictures than the converged pictures are, beyond noise: deis at 10." in texts(page)
    assert "by this distance: 0 of 3 with 2 calls, 0 of 3 with 10 calls." in texts(page)
    _, fd, distance, claims = tables(page)
    assert fd.rows == [["ddim", "", "2", "1.5"], ["ddpm", "drawn", "≈ 2.01", "1.2"], ["deis", "", "3", "0.9"]]
    assert fd.best == {(0, 2), (2, 3)}
    assert [row[0] for row in distance.rows] == ["ddim", "deis"]
    assert [(row[0], row[1], row[-1]) for row in claims.rows] == [
        ("ddim before ddpm", "10", "contradicted"),
        ("deis before ddim", "10", "holds"),
    ]
    assert claims.best == {(0, 4)}


def test_orders_are_slopes(told: Any, tmp_path: Path) -> None:
    """0.4 at 2 calls, 0.08 at 10: first order. 0.016: second. What was before the last two is not asked."""
    first = {"ddim-1": (3.0, 0.01, 0.41), "deis-1": (3.0, 0.01, 0.41)}
    study, results = told({**FIGURES, **first}, **{**SETTINGS, "budgets": (1, 2, 10)})
    scores = Scores(study, results, tmp_path)
    assert [scores.slope(route) for route in study.routes] == [pytest.approx(1.0), None, pytest.approx(2.0)]
    assert "All samplers converge at least in about their published order." in texts(
        study.found(results, tmp_path).page
    )
    slow = {**results, "deis-10": {**results["deis-10"], "distance": 0.08}}
    told_slow = "1 of 2 converge more slowly than their published order: deis (1.0 instead of 2)."
    assert told_slow in texts(study.found(slow, tmp_path).page)


def test_distances_that_say_little_make_no_order(told: Any, tmp_path: Path) -> None:
    """0.016 is less than three times 0.006: deis is judged by the two before, ddim as it was."""
    first = {"ddim-1": (3.0, 0.01, 0.8), "deis-1": (3.0, 0.01, 0.8)}
    study, results = told({**FIGURES, **first}, **{**SETTINGS, "budgets": (1, 2, 10)})
    vague = {**results, "converged-half": {**results["converged-half"], "distance": 0.006}}
    scores = Scores(study, vague, tmp_path)
    assert [scores.slope(route) for route in study.routes] == [pytest.approx(1.0), None, pytest.approx(1.0)]
    assert "1 of 2 converge more slowly" in texts(study.found(vague, tmp_path).page)
    vaguer = {**results, "converged-half": {**results["converged-half"], "distance": 0.2}}
    assert [Scores(study, vaguer, tmp_path).slope(route) for route in study.routes] == [None, None, None]
    assert "Too few distances that say enough" in texts(study.found(vaguer, tmp_path).page)


def test_noise_hides_what_is_no_difference(told: Any, tmp_path: Path) -> None:
    study, results = told({**FIGURES, "deis-10": (0.9, 5.0, 0.016)}, **SETTINGS)
    page = study.found(results, tmp_path).page
    [winners] = [section for section in page.sections if section.title == "Who wins"]
    assert winners.items[0].rows[1] == ["10", "deis", "0.9", "ddpm, ddim"]
    assert "by this distance: 0 of 3 with 2 calls, 1 of 3 with 10 calls." in texts(page)
    assert "Nothing is nearer to the training pictures than the converged pictures are" in texts(page)
    assert "1 within noise" in page.lead


def test_claims_are_those_of_their_tables() -> None:
    """Table 1 of DDIM has 10, 20, 50, 100 and 1000 steps; LCM was compared on distilled networks alone."""
    calls = {(claim.better, claim.worse): claim.calls for claim in CLAIMS}
    assert set(calls["ddim", "ddpm"]) <= {10, 20, 50, 100, 1000}
    assert not {"lcm", "tcd"} & {name for pair in calls for name in pair}


@pytest.mark.parametrize("done", [0, 1, 2, 3, 5])
def test_a_page_of_what_is_done(done: int, told: Any, tmp_path: Path) -> None:
    study, results = told(dict(list(FIGURES.items())[:done]), **SETTINGS)
    page = study.found(results, tmp_path).page
    assert page.html()
    assert ("Nothing has been painted yet." in page.lead) == (done < 3)
