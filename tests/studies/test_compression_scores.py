"""The page says what the figures say: winners at equal compute and at equal steps, noise, contradictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latentbrush.reporting import Page
from latentbrush.studies.compression.claims import claim_table, verdicts
from latentbrush.studies.compression.page import found
from latentbrush.studies.compression.scores import Scores, alike
from latentbrush.studies.study import Figures

pytestmark = pytest.mark.capability("studies")

Tell = Callable[[dict[int, tuple[float, list[float], float]]], tuple[dict[str, Figures], Path]]
COMMON = torch.randn(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
"""What moves all resampled distances together, by much more than they differ."""
SETTINGS = {
    "factors": [1, 8, 32], "seed": 0, "steps": 400, "pictures": 4, "train": 9, "size": 32,
    "extractor": {"name": "quarters", "digest": "sha256:0"},
}  # fmt: skip


@pytest.fixture
def tell(tmp_path: Path) -> Tell:
    """Made-up figures: factor -> (TFLOP a step, FD every 100 steps, own noise)."""

    def told(figures: dict[int, tuple[float, list[float], float]]) -> tuple[dict[str, Figures], Path]:
        results: dict[str, Figures] = {}
        for factor, (tflop, fds, noise) in figures.items():
            folder, rows = tmp_path / "cells" / f"ldm-{factor}", []
            folder.mkdir(parents=True)
            for place, fd in enumerate(fds, 1):
                own = torch.randn(100, generator=torch.Generator().manual_seed(100 * factor + place)).numpy()
                np.savez(folder / f"fd-{100 * place:06d}.npz", resampled=fd + COMMON + noise * own)
                rows.append({"step": 100 * place, "tflop": 100 * place * tflop, "fd": fd})
            results[f"ldm-{factor}"] = {
                "factor": factor, "latent": [3, 1, 1], "parameters": 10, "text_parameters": 1, "step_tflop": tflop,
                "stage_tflop": None, "reconstruction_fd": 0.1, "measured": rows,
            }  # fmt: skip
        return results, tmp_path

    return told


FIGURES = {
    1: (0.04, [16.0, 8.0, 5.0, 4.0], 0.01),
    8: (0.01, [8.0, 4.0, 3.0, 2.0], 0.01),
    32: (0.005, [3.0, 2.5, 2.4, 2.3], 0.01),
}


def test_at_equal_compute(tell: Tell) -> None:
    scores = Scores(*tell(FIGURES))
    assert scores.budgets == [2.0, 4.0, 16.0]
    assert [(p.factor, p.fd) for p in scores.within(4.0)] == [(8, 2.0), (32, 2.3), (1, 16.0)]
    assert [p.factor for p in scores.within(2.0)] == [32, 8]  # LDM-1 was not measured so early
    track = scores.tracks[1]
    half = track.at(4 * 2**0.5)  # half way from 4 to 8 in the logarithm
    assert half is not None
    assert half.fd == pytest.approx(12.0)
    first, second = (point.resampled for point in track.points[:2])
    torch.testing.assert_close(half.resampled, (first + second) / 2)
    assert track.at(3.9) is None
    assert track.at(99.0) is track.last
    assert [p.factor for p in scores.at_the_end()] == [8, 32, 1]
    assert track.late_slope == pytest.approx(1.0)


def test_noise_is_told_from_differences(tell: Tell) -> None:
    scores = Scores(*tell({1: (1.0, [2.0], 0.5), 8: (1.0, [2.1], 0.5), 32: (1.0, [9.0], 0.5)}))
    assert [point.factor for point in alike(scores.at_the_end())] == [8]
    assert scores.tracks[1].late_slope is None


def test_verdicts_are_the_figures_own(tell: Tell) -> None:
    scores = Scores(*tell(FIGURES))
    rows = {(row[0], row[2]): row[4] for row in claim_table(scores).rows}
    assert rows == {
        ("LDM-8 before LDM-1", "equal steps"): "holds",
        ("LDM-8 before LDM-1", "4 TFLOP"): "holds",
        ("LDM-8 before LDM-32", "equal steps"): "holds",
        ("LDM-8 before LDM-32", "2 TFLOP"): "contradicted",
        ("LDM-32 stagnates", "second half of steps"): "holds",
    }
    assert "4 hold here, too, 0 lie within noise, 1 are contradicted: LDM-8 before LDM-32 at 2 TFLOP" in verdicts(
        scores
    )
    assert verdicts(Scores({}, Path())) == "No factors that the paper compares were trained."


def test_the_page_says_so(tell: Tell) -> None:
    results, folder = tell(FIGURES)
    page: Page = found(results, SETTINGS, folder).page
    assert page.lead.startswith("After equal steps the nearest to the training pictures is LDM-8 (FD 2); with 4 TFLOP")
    items: list[Any] = [item for section in page.sections for item in section.items]
    table = next(item for item in items if item.kind == "table")
    assert table.rows == [
        ["2", "–", "4", "2.3"],
        ["4", "16", "2", "2.3 (2)"],
        ["16", "4", "2 (4)", "2.3 (2)"],
    ]
    assert table.best == {(0, 3), (1, 2), (2, 2)}
    assert any(item.kind == "text" and "LDM-8 2, LDM-32 2.3, LDM-1 4" in item.text for item in items)
