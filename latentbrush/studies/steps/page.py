"""The page of `study steps`; every sentence about samplers is made of the figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from latentbrush.reporting import Grid, Item, Page, Paragraph, Picture, Section, Table
from latentbrush.studies.steps.claims import claim_table, verdicts
from latentbrush.studies.steps.pictures import sheets
from latentbrush.studies.steps.plots import KNOWN, distance_plot, fd_plot
from latentbrush.studies.steps.routes import DISTILLED, ORDERS
from latentbrush.studies.steps.scores import SURE, Scores
from latentbrush.studies.study import Figures, Found

if TYPE_CHECKING:  # the study makes this page
    from latentbrush.studies.steps.study import StepsStudy

__all__ = ["found"]

FEW = 3
"""Names in a sentence."""
SLACK = 0.5
"""Orders that a measured slope may fall short of the published one without a word."""


def found(study: StepsStudy, results: Mapping[str, Figures], folder: Path) -> Found:
    scores = Scores(study, results, folder)
    plots = {"fd": fd_plot(scores)}
    if scores.measured:
        plots["distance"] = distance_plot(scores)
    sections = [
        Section("Who wins", [_winners(scores)]),
        Section("Fréchet distance against network calls", [plots["fd"], _fd_table(scores), *_notes(scores)]),
        Section("Distance to the converged picture", _converging(scores, plots.get("distance"))),
        Section("Beside the literature", [Paragraph(verdicts(scores)), claim_table(scores)]),
        Section("The same four pictures", [Grid(sheets(scores, KNOWN))]),
        Section("How it was measured", [Paragraph(text) for text in _method(scores)]),
    ]
    return Found(Page("How many steps a picture needs", _lead(scores), sections, _about(scores)), plots)


def _lead(scores: Scores) -> str:
    if not any(scores.ranked(budget) for budget in scores.budgets):
        return "Nothing has been painted yet."
    return f"Who paints nearest to the training pictures, at how many network calls. {verdicts(scores)}"


def _winners(scores: Scores) -> Table:
    """Who wins at each number of calls, and who cannot be told apart from the winner."""
    rows = []
    for budget in scores.budgets:
        ranked, alike = scores.ranked(budget), scores.alike(budget)
        if ranked:
            names = ", ".join(score.name for score in alike) or "nobody"
            told = names if len(alike) <= FEW else f"{len(alike)} of {len(ranked) - 1} others"
            rows.append([str(budget), ranked[0].name, f"{ranked[0].fd:.3g}", told])
    columns = ("network calls", "lowest FD", "FD", "as near, within noise")
    return Table(columns, rows, numbers=("network calls", "FD"))


def _fd_table(scores: Scores) -> Table:
    columns = ("sampler", "noise", *(f"{budget} calls" for budget in scores.budgets))
    rows: list[list[str]] = []
    best: set[tuple[int, int]] = set()
    alike = {budget: {score.name for score in scores.alike(budget)} for budget in scores.budgets}
    for route in scores.study.routes:
        row = [route.name, "drawn" if route.draws(scores.study.model) else ""]
        for place, budget in enumerate(scores.budgets, 2):
            score = scores.get(route.name, budget)
            if score is None:
                row.append("–")
                continue
            if scores.ranked(budget)[0] is score:
                best.add((len(rows), place))
            fewer = f" ({score.calls})" if score.calls != budget else ""
            row.append(f"{'≈ ' if route.name in alike[budget] else ''}{score.fd:.3g}{fewer}")
        rows.append(row)
    caption = (
        "The best is marked; ≈: not told apart from it (95%, paired). In brackets the calls where a sampler's steps do "
        "not fit the number. –: it has no plan of so few calls."
    )
    return Table(columns, rows, columns[2:], frozenset(best), caption)


def _notes(scores: Scores) -> list[Paragraph]:
    notes = []
    levels = {
        f"the converged pictures ({scores.study.converged.calls} calls)": scores.converged_fd,
        "the autoencoder's reconstructions of the captions' own pictures": scores.floor("reconstructions"),
        "those pictures themselves, which the reference contains": scores.floor("originals"),
        "the same to the training pictures without them": scores.floor("apart"),
    }
    told = [f"{name} {value:.3g}" for name, value in levels.items() if value is not None]
    if told:
        notes.append(f"What the scale means, of {len(scores.study.captions)} pictures each: {'; '.join(told)}.")
    done = [(budget, scores.as_converged(budget), len(scores.ranked(budget))) for budget in scores.budgets]
    if scores.converged is not None:
        counts = ", ".join(f"{same} of {count} with {budget} calls" for budget, same, count in done if count)
        notes.append(f"Not told apart from the converged pictures, by this distance: {counts}.")
    nearer = scores.nearer_than_converged()
    if nearer:
        names = ", ".join(f"{score.name} at {score.calls}" for score in nearer)
        notes.append(f"Nearer to the training pictures than the converged pictures are, beyond noise: {names}.")
    elif scores.converged_fd is not None:
        notes.append("Nothing is nearer to the training pictures than the converged pictures are, beyond noise.")
    distilled = [route.name for route in scores.study.routes if route.sampler in DISTILLED]
    if distilled:
        notes.append(
            f"{' and '.join(distilled)} are meant for networks distilled for them, which finish the picture at every "
            "call; on another network they are here for comparison."
        )
    return [Paragraph(note) for note in notes]


def _converging(scores: Scores, plot: Picture | None) -> list[Item]:
    study = scores.study
    said = (
        f"Deterministic samplers solve one differential equation, so all lead to one picture: here "
        f"{study.converged.steps} steps of {study.converged.route.name}. Those that draw noise on the way have no such "
        "picture, and no distance."
    )
    if scores.check is not None:
        said += (
            f" {study.check.steps} steps of the same solver differ from it by {scores.check:.2g}; distances near that "
            "say little."
        )
    if study.model.schedule.rescale_zero_snr:
        said += (
            " The model's schedule begins at pure noise, where log(alpha / sigma) is infinite: multistep samplers and "
            "those with two calls a step leave it by one step of first order, whose error the others do not mend."
        )
    drawn: list[Item] = [] if plot is None else [plot, _distance_table(scores)]
    return [Paragraph(said), *drawn, Paragraph(_slopes(scores))]


def _distance_table(scores: Scores) -> Table:
    columns = ("sampler", *(f"{budget} calls" for budget in scores.budgets), "measured order", "published order")
    rows = []
    for route in scores.study.routes:
        if route.draws(scores.study.model):
            continue
        row = [route.name]
        for budget in scores.budgets:
            score = scores.get(route.name, budget)
            row.append("–" if score is None or score.distance is None else f"{score.distance:.2g}")
        slope = scores.slope(route)
        rows.append([*row, "–" if slope is None else f"{slope:.1f}", str(ORDERS.get(route.sampler, "–"))])
    places = range(1, len(scores.budgets) + 1)
    best = set()
    for place, budget in zip(places, scores.budgets, strict=True):
        nearest = scores.nearest(budget)
        best |= {(i, place) for i, row in enumerate(rows) if nearest is not None and row[0] == nearest.name}
    caption = (
        "Root mean square over pixels from 0 to 1. Order: how steeply the distance falls between the last two that are "
        f"at least {SURE} times what half as many steps change in the converged pictures."
    )
    return Table(columns, rows, columns[1:], frozenset(best), caption)


def _slopes(scores: Scores) -> str:
    slopes = {route: scores.slope(route) for route in scores.study.routes if route.sampler in ORDERS}
    short = [
        f"{route.name} ({slope:.1f} instead of {ORDERS[route.sampler]})"
        for route, slope in slopes.items()
        if slope is not None and slope < ORDERS[route.sampler] - SLACK
    ]
    known = [slope for slope in slopes.values() if slope is not None]
    if not known:
        return "Too few distances that say enough were measured to tell orders of convergence."
    if not short:
        return "All samplers converge at least in about their published order."
    return f"{len(short)} of {len(known)} converge more slowly than their published order: {', '.join(short)}."


def _method(scores: Scores) -> list[str]:
    study = scores.study
    weight = study.converged.request.guidance.weight
    guided = f"Guidance is {weight:g}: " if weight is not None else ""
    return [
        f"{len(study.captions)} captions of the training pictures were drawn with seed {study.seed}; picture i begins "
        f"with the noise of seed {study.seed} + i in every cell, so that samplers are compared on the same pictures. "
        f"The reference are all {len(study.folder)} training pictures, seen by {study.extractor.identity.name}. Such a "
        "distance of few pictures is greater than that of many would be: compare only figures of equally many.",
        f"{guided}the prompt's and the negative prompt's branch are one batched call, and counted as one. A sampler "
        "takes the most steps whose calls are no more than the number; the calls were counted as they were made.",
        "Intervals come from how each pair of pictures moves the difference of two distances (the infinitesimal "
        "jackknife); where pictures are few for the numbers in a feature they are too wide, by less than resampling "
        "would make them. They tell what other captions and seeds would change, not what another training would; and "
        "where the best of many is chosen, its lead is flattered. Of many comparisons, some are told apart by chance.",
    ]


def _about(scores: Scores) -> list[tuple[str, str]]:
    settings = scores.study.settings()
    painted = sum(cell.work for cell in scores.study.cells() if cell.name in scores.results)
    told = {
        "model": f"{settings['model']}, {', '.join(f'{k} {v[:12]}' for k, v in settings['weights'].items())}",
        "features": f"{settings['extractor']['name']}, {settings['extractor']['digest'][:19]}",
        "pictures": f"{settings['pictures']} of {settings['size']}x{settings['size']} pixels in every cell",
        "cost": f"{painted:,.0f} picture-calls (one picture, one network call)",
    }
    return list(told.items())
