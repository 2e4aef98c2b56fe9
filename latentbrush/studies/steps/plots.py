"""The two plots of `study steps`."""

from __future__ import annotations

from collections.abc import Sequence

from latentbrush.reporting import Picture, Series, line_plot
from latentbrush.studies.steps.routes import Route
from latentbrush.studies.steps.scores import Scores

__all__ = ["KNOWN", "distance_plot", "fd_plot"]

KNOWN = ("ddim", "dpmpp_2m", "unipc", "heun", "euler_ancestral", "ddpm", "plms", "deis", "euler")
"""What people ask for first."""
MOST_COLOURS = 8
"""Lines that are told apart; the others are drawn in grey."""


def coloured(scores: Scores, routes: Sequence[Route]) -> list[str]:
    """Winners first, then those that people know."""
    winners = [scores.ranked(budget)[0].name for budget in scores.budgets if scores.ranked(budget)]
    names = {route.name for route in routes}
    return [name for name in dict.fromkeys((*winners, *KNOWN)) if name in names][:MOST_COLOURS]


def _lines(scores: Scores, routes: Sequence[Route], value: str) -> list[Series]:
    """One line a route; grey ones share one name in the legend."""
    chosen, grey = coloured(scores, routes), 0
    lines: list[Series] = []
    for route in sorted(routes, key=lambda route: chosen.index(route.name) if route.name in chosen else len(chosen)):
        points = [score for score in scores.of(route) if getattr(score, value)]
        if not points:
            continue
        faint = route.name not in chosen
        grey += faint
        # Names that begin with an underscore stay out of the legend.
        name = route.name if not faint else "others" if grey == 1 else f"_{route.name}"
        x, y = [float(score.calls) for score in points], [float(getattr(score, value)) for score in points]
        lines.append(Series(name, x, y, faint=faint))
    return lines


def _level(scores: Scores, name: str, value: float | None) -> list[Series]:
    """A dashed line across the plot."""
    ends = [float(min(scores.budgets)), float(max(scores.budgets))]
    return [] if value is None else [Series(name, ends, [value, value], dashed=True)]


def fd_plot(scores: Scores) -> Picture:
    lines = _lines(scores, scores.study.routes, "fd")
    lines += _level(scores, f"converged ({scores.study.converged.calls} calls)", scores.converged_fd)
    lines += _level(scores, "autoencoder's reconstructions", scores.floor("reconstructions"))
    title = f"FD of {len(scores.study.captions)} pictures to the training pictures"
    plot = line_plot(
        lines,
        x="network calls a picture",
        y="Fréchet distance",
        title=title,
        log_x=True,
        log_y=True,
        x_ticks=scores.budgets,
        size=(9.5, 5.4),
    )
    return Picture(plot, "Fréchet distance against network calls, a line a sampler")


def distance_plot(scores: Scores) -> Picture:
    routes = [route for route in scores.study.routes if not route.draws(scores.study.model)]
    lines = _lines(scores, routes, "distance")
    lines += _level(scores, "half as many converged steps", scores.check)
    plot = line_plot(
        lines,
        x="network calls a picture",
        y="root mean square, pixels 0 to 1",
        title="Distance to the converged picture of the same seed",
        log_x=True,
        log_y=True,
        x_ticks=scores.budgets,
        size=(9.5, 5.4),
    )
    return Picture(plot, "Distance to the converged picture against network calls, a line a deterministic sampler")
