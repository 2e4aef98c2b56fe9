"""The orders that stand in the paper's table, each looked up in ours: what holds at this scale, and what does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latentbrush.studies.zoo import ZooSetting

__all__ = ["Trend", "trends"]

Row = tuple[ZooSetting, Mapping[str, Any]]


@dataclass(frozen=True)
class Trend:
    """A comparison of two settings by one figure: what the paper has, what was found here, and whether they agree."""

    claim: str
    paper: str
    here: str
    holds: bool


@dataclass(frozen=True)
class _Figure:
    """`title`: for people; `name`: here; `of_paper`: in the paper's table."""

    title: str
    name: str
    of_paper: str


PSNR, RFID = _Figure("PSNR", "PSNR", "psnr"), _Figure("R-FID", "R-FD", "rfid")


def trends(rows: Sequence[Row]) -> list[Trend]:
    """All pairs of settings that differ in one thing, by PSNR and R-FID: f, regulariser, codes, channels, attention.

    Only pairs whose order the paper's own table tells are looked up; both figures of both settings stand beside it.
    """
    found = []
    for what, first, second in _pairs(rows):
        for figure in (PSNR, RFID):
            a, b = (float(getattr(setting.paper, figure.of_paper)) for setting, _ in (first, second))
            x, y = (float(figures["held_out"][figure.name]["value"]) for _, figures in (first, second))
            if a == b:
                continue
            more = "above" if a > b else "below"
            claim = f"{what}: {figure.title} of {first[0].name} lies {more} {second[0].name}'s"
            found.append(Trend(claim, f"{a:g} and {b:g}", f"{x:.3g} and {y:.3g}", (x > y) == (a > b)))
    return found


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[str, Row, Row]]:
    """Each pair once, with what sets it apart."""
    for i, first in enumerate(rows):
        for second in rows[i + 1 :]:
            apart = [name for name, of in ASPECTS.items() if of(first[0]) != of(second[0])]
            if len(apart) == 1:
                yield apart[0], first, second
            elif _neighbours(first[0], second[0]):
                yield "f", first, second


def _neighbours(a: ZooSetting, b: ZooSetting) -> bool:
    """Factors one step apart, of one regulariser with attention, the largest codebook and most channels of their f."""
    return (
        a.regulariser == b.regulariser
        and max(a.factor, b.factor) == 2 * min(a.factor, b.factor)
        and _main(a)
        and _main(b)
    )


def _main(setting: ZooSetting) -> bool:
    return (
        setting.attention
        and setting.codes not in (64, 256)
        and (setting.factor, setting.channels) not in ((32, 16), (16, 8))
    )


ASPECTS: Mapping[str, Callable[[ZooSetting], object]] = {
    "f": lambda one: one.factor,
    "regulariser": lambda one: one.regulariser,
    "codes": lambda one: one.codes,
    "channels": lambda one: one.channels,
    "attention": lambda one: one.attention,
}
