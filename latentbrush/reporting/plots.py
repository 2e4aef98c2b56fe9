"""Plots as pictures, all in one style."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from latentbrush.reporting.extra import report_libraries

__all__ = ["Series", "line_plot"]

DPI = 130
MOST_WITHIN = 6
"""Names in a legend among the lines; more stand beside them."""


@dataclass(frozen=True)
class Series:
    """A line through (x, y); `low` and `high`: an interval about each y, drawn as a band.

    `faint`: in grey, behind the others.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    faint: bool = False
    dashed: bool = False
    points_only: bool = False


def line_plot(
    series: Sequence[Series],
    *,
    x: str,
    y: str,
    title: str,
    log_x: bool = False,
    log_y: bool = False,
    x_ticks: Sequence[float] = (),
    size: tuple[float, float] = (8.0, 4.6),
    labelled: bool = False,
) -> Image.Image:
    """Lines on white, with `x` and `y` naming the axes; `size` in inches at 130 dots. `x_ticks`: numbers to mark,
    instead of powers of ten and the like. `labelled`: each point of a
    series that has points only bears its series' name, instead of a legend. UserError without the extra `report`."""
    report_libraries()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for one in series:
        (line,) = axes.plot(
            one.x,
            one.y,
            label=one.name,
            color="#b9c0cb" if one.faint else None,
            linestyle="none" if one.points_only else "--" if one.dashed else "-",
            linewidth=1.8,
            marker="o",
            markersize=4,
            zorder=1 if one.faint else 2,
        )
        if one.low:
            axes.fill_between(one.x, one.low, one.high, alpha=0.15, color=line.get_color(), linewidth=0)
        if labelled and one.points_only:
            for place in zip(one.x, one.y, strict=True):
                axes.annotate(one.name, place, textcoords="offset points", xytext=(6, 4), fontsize=8)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, loc="left", fontsize=11)
    if log_x:
        axes.set_xscale("log")
    if log_y:
        axes.set_yscale("log")
    if x_ticks:
        axes.set_xticks(x_ticks, [f"{tick:g}" for tick in x_ticks])
        axes.set_xticks([], minor=True)
    axes.grid(visible=True, which="major", color="#e6e9ef")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if not labelled and len(series) > 1:
        if len(series) > MOST_WITHIN:
            axes.legend(frameon=False, fontsize=8, bbox_to_anchor=(1.01, 1.0), loc="upper left")
        else:
            axes.legend(frameon=False, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")
