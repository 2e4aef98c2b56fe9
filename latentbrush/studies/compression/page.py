"""The page of `study compression`; every sentence about factors is made of the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from latentbrush.reporting import Item, Page, Paragraph, Picture, Section, Series, Table, line_plot
from latentbrush.studies.compression.claims import claim_table, verdicts
from latentbrush.studies.compression.scores import Point, Scores, Track, alike
from latentbrush.studies.study import Figures, Found

__all__ = ["found"]

PIXELS = 256
"""A side of the paper's pictures."""


def found(results: Mapping[str, Figures], settings: Mapping[str, Any], folder: Path) -> Found:
    scores = Scores(results, folder)
    plots = {"compute": _plot(scores, "tflop"), "steps": _plot(scores, "step")} if scores.tracks else {}
    sections = [
        Section("Fréchet distance against training compute", _compute(scores, plots.get("compute"))),
        Section("Fréchet distance against steps", [*_only(plots.get("steps")), *_end(scores)]),
        Section("What was trained", [_table(scores)]),
        Section("Beside the paper", [Paragraph(verdicts(scores)), claim_table(scores)]),
        Section("The same captions, at the end of each training", _sheets(scores, folder)),
        Section("How it was measured", [Paragraph(text) for text in _method(scores, settings)]),
    ]
    about = [
        ("cells", f"{len(results)} of {len(settings['factors'])}"),
        ("seed", str(settings["seed"])),
        ("features", f"{settings['extractor']['name']}, {settings['extractor']['digest'][:19]}"),
    ]
    return Found(Page("How far a first stage should compress", _lead(scores), sections, about), plots)


def _only(plot: Picture | None) -> list[Item]:
    return [] if plot is None else [plot]


def _name(point: Point | Track) -> str:
    return f"LDM-{point.factor}"


def _winner(ranked: Sequence[Point]) -> str:
    near = alike(ranked)
    noise = f"; so are, within noise, {', '.join(_name(point) for point in near)}" if near else ""
    return f"{_name(ranked[0])} (FD {ranked[0].fd:.3g}{noise})"


def _lead(scores: Scores) -> str:
    if not scores.tracks:
        return "Nothing has been trained yet."
    budget = scores.budgets[len(scores.budgets) // 2]
    end = f"After equal steps the nearest to the training pictures is {_winner(scores.at_the_end())}"
    return f"{end}; with {budget:.3g} TFLOP of training it is {_winner(scores.within(budget))}. {verdicts(scores)}"


def _plot(scores: Scores, across: str) -> Picture:
    lines = [
        Series(_name(track), [getattr(point, across) for point in track.points], [point.fd for point in track.points])
        for track in scores.tracks.values()
    ]
    x = "training compute of the diffusion model (TFLOP)" if across == "tflop" else "steps"
    plot = line_plot(
        lines, x=x, y="Fréchet distance", title="Fréchet distance to the training pictures, a line a factor",
        log_x=True, log_y=True, size=(9.0, 5.2),
    )  # fmt: skip
    return Picture(plot, f"Fréchet distance against {x}")


def _compute(scores: Scores, plot: Picture | None) -> list[Item]:
    factors = list(scores.tracks)
    rows: list[list[str]] = []
    best: set[tuple[int, int]] = set()
    for budget in scores.budgets:
        ranked = scores.within(budget)
        near, points = alike(ranked), {point.factor: point for point in ranked}
        row = [f"{budget:.3g}"]
        for place, factor in enumerate(factors, 1):
            point = points.get(factor)
            if point is None:
                row.append("–")
                continue
            if point is ranked[0]:
                best.add((len(rows), place))
            less = f" ({point.tflop:.3g})" if point.tflop < budget * (1 - 1e-9) else ""
            row.append(f"{'≈ ' if point in near else ''}{point.fd:.3g}{less}")
        rows.append(row)
    columns = ("TFLOP", *(f"LDM-{factor}" for factor in factors))
    caption = (
        "Where one factor's training ends, all with that much compute; between measurements on a straight line over "
        "the logarithm. In brackets what a factor was trained with where that was less; –: it was not measured so "
        "early. The best is marked; ≈: not told apart from it (95%, paired)."
    )
    said = [Paragraph(f"With {budget:.3g} TFLOP: {_winner(scores.within(budget))}.") for budget in scores.budgets]
    return [*_only(plot), Table(columns, rows, columns, frozenset(best), caption), *said]


def _end(scores: Scores) -> list[Item]:
    ranked = scores.at_the_end()
    if not ranked:
        return []
    order = ", ".join(f"{_name(point)} {point.fd:.3g}" for point in ranked)
    return [Paragraph(f"After {ranked[0].step:,} steps, the best first: {order}.")]


def _table(scores: Scores) -> Table:
    columns = (
        "f", "latents", "UNet", "GFLOP a step", "training, TFLOP", "first stage, TFLOP", "FD at the end",
        "FD of reconstructions", "late slope",
    )  # fmt: skip
    rows = []
    for track in scores.tracks.values():
        figures, slope = track.figures, track.late_slope
        stage = figures["stage_tflop"]
        rows.append([
            str(track.factor),
            "x".join(map(str, figures["latent"])),
            f"{figures['parameters'] / 1e6:.2f} M",
            f"{figures['step_tflop'] * 1000:.1f}",
            f"{track.last.tflop:.3g}",
            "taken" if stage is None else f"{stage:.3g}",
            f"{track.last.fd:.3g}",
            f"{figures['reconstruction_fd']:.3g}",
            "–" if slope is None else f"{slope:.2f}",
        ])  # fmt: skip
    caption = (
        "First stage: its own training, which is in no other figure; taken: from a zoo. FD of reconstructions: of the "
        "captions' own pictures through the first stage. Late slope: how steeply log FD falls over log steps at last."
    )
    return Table(columns, rows, columns, caption=caption)


def _sheets(scores: Scores, folder: Path) -> list[Item]:
    shown: list[Item] = [Paragraph("Above the captions' own pictures, below what is painted of them.")]
    for track in scores.tracks.values():
        path = folder / "cells" / f"ldm-{track.factor}" / "run" / "samples" / f"step-{track.last.step:06d}.png"
        if path.is_file():
            with Image.open(path) as image:
                sheet = image.convert("RGB")
            shown.append(Picture(sheet, _name(track), _name(track), width=min(2 * sheet.width, 720)))
    return shown


def _method(scores: Scores, settings: Mapping[str, Any]) -> list[str]:
    counts = [track.figures["parameters"] for track in scores.tracks.values()]
    sizes = f" ({min(counts) / 1e6:.2f} to {max(counts) / 1e6:.2f} million)" if counts else ""
    size = settings["size"]
    return [
        f"As in the paper, all models have as many parameters{sizes}, and are trained for as many steps "
        f"({settings['steps']:,}) of as many pictures; their compute is what differs. It is counted from the networks' "
        "matrix products, UNet and text tower, backward at twice forward. LDM-1 diffuses pixels.",
        f"{settings['pictures']} captions of training pictures were drawn; picture i is painted from the noise of seed "
        f"{settings['seed']} + i in 20 steps of DDIM without guidance, by the averaged weights. The distance is to all "
        f"{settings['train']} training pictures. Such a distance of few pictures is greater than that of many.",
        "Intervals come from resampling pictures, the same ones for both models of a pair. They tell what other "
        "captions would change, not another training, of which there is one each.",
        f"The paper's pictures have {PIXELS} pixels a side, ours {size}: its LDM-{PIXELS // size} has as many cells as "
        "our LDM-1. What a factor takes away from a picture compares, what it leaves does not.",
    ]
