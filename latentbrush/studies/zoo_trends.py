"""The orders that stand in the paper's table, each looked up in ours: what holds at this scale, and what does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from torch import Tensor

from latentbrush.evaluation.bootstrap import Interval, frechet_difference, mean_interval
from latentbrush.studies.zoo import ZOO, ZooSetting

__all__ = ["NOISE", "Each", "Row", "Trend", "trends"]

NOISE: Final = "not told apart"
Verdict = Literal["yes", "NO", "not told apart"]


@dataclass(frozen=True)
class Each:
    """Of n held-out pictures, the same for all settings. `psnr`: (n,) float64, infinite where a picture comes back as
    it was; `influences`: (n,) of the pictures on R-FD, see `frechet_influences`."""

    psnr: Tensor
    influences: Tensor


class Row(NamedTuple):
    """A setting, the figures of its cell, and what they are made of."""

    setting: ZooSetting
    figures: Mapping[str, Any]
    each: Each


@dataclass(frozen=True)
class Trend:
    """A comparison of two settings by one figure: what the paper has, what was found here, and whether they agree.

    `apart`: by how much the first lies above the second, with the 95% interval over pictures, by pairs.
    """

    claim: str
    paper: str
    here: str
    apart: str
    verdict: Verdict


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
            a, b = (float(getattr(row.setting.paper, figure.of_paper)) for row in (first, second))
            x, y = (float(row.figures["held_out"][figure.name]["value"]) for row in (first, second))
            if a == b:
                continue
            more = "above" if a > b else "below"
            claim = f"{what}: {figure.title} of {first.setting.name} lies {more} {second.setting.name}'s"
            apart = _apart(figure, first, second)
            told = f"{apart.estimate:+.2g} ({apart.low:+.2g} to {apart.high:+.2g})"
            verdict: Verdict = NOISE if not apart.excludes_zero else "yes" if (apart.low > 0) == (a > b) else "NO"
            found.append(Trend(claim, f"{a:g} and {b:g}", f"{x:.3g} and {y:.3g}", told, verdict))
    return found


def _apart(figure: _Figure, first: Row, second: Row) -> Interval:
    """Of the first's figure less the second's. A PSNR that is infinite on either side is left out."""
    if figure is RFID:
        r_fd = (float(row.figures["held_out"][figure.name]["value"]) for row in (second, first))
        of_second, of_first = zip(r_fd, (second.each.influences, first.each.influences), strict=True)
        return frechet_difference(of_second, of_first)
    differences = first.each.psnr - second.each.psnr
    return mean_interval(differences[differences.isfinite()])


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[str, Row, Row]]:
    """Each pair once, with what sets it apart."""
    for i, first in enumerate(rows):
        for second in rows[i + 1 :]:
            apart = [name for name, of in ASPECTS.items() if _differ(of(first.setting), of(second.setting))]
            if len(apart) == 1:
                yield apart[0], first, second
            elif _neighbours(first.setting, second.setting):
                yield "f", first, second


def _differ(a: object, b: object) -> bool:
    """What one of them has not, codes with KL, sets no pair apart."""
    return a is not None and b is not None and a != b


def _neighbours(a: ZooSetting, b: ZooSetting) -> bool:
    """Factors one step apart, of one regulariser, each the main setting of its factor."""
    steps = max(a.factor, b.factor) == 2 * min(a.factor, b.factor)
    return a.regulariser == b.regulariser and steps and _is_main(a) and _is_main(b)


def _is_main(setting: ZooSetting) -> bool:
    """Has it the most channels, then codes, in the table for its factor and regulariser, with attention?"""
    alike = [one for one in ZOO if (one.factor, one.regulariser) == (setting.factor, setting.regulariser)]
    return setting == max(alike, key=lambda one: (one.channels, one.codes or 0, one.attention))


ASPECTS: Mapping[str, Callable[[ZooSetting], object]] = {
    "f": lambda one: one.factor,
    "regulariser": lambda one: one.regulariser,
    "codes": lambda one: one.codes,
    "channels": lambda one: one.channels,
    "attention": lambda one: one.attention,
}
