"""What the paper says of one factor beside another, to be held against what was measured."""

from __future__ import annotations

from dataclasses import dataclass

from latentbrush.reporting import Table
from latentbrush.studies.compression.scores import Point, Scores

__all__ = ["CLAIMS", "claim_table", "verdicts"]

CLAIMS = (
    *((better, worse, "small factors train slowly") for worse in (1, 2) for better in (4, 8, 16)),
    *((better, 32, "too much compression loses too much") for better in (4, 8, 16)),
)
"""Better, worse, and why: Rombach et al. 2022, section 4.1 and figure 6, of models trained for as many steps."""
HOLDS, AGAINST, UNCLEAR = "holds", "contradicted", "not told apart"


@dataclass(frozen=True)
class _Verdict:
    claim: str
    why: str
    when: str
    here: str
    verdict: str

    def row(self) -> list[str]:
        return [self.claim, self.why, self.when, self.here, self.verdict]


def _found(scores: Scores) -> list[_Verdict]:
    found: list[_Verdict] = []
    for better, worse, why in CLAIMS:
        if better not in scores.tracks or worse not in scores.tracks:
            continue
        first, second = scores.tracks[better], scores.tracks[worse]
        found.append(_held(first.last, second.last, why, "equal steps"))
        budget = min(first.last.tflop, second.last.tflop)
        points = first.at(budget), second.at(budget)
        if points[0] is not None and points[1] is not None:
            found.append(_held(points[0], points[1], why, f"{budget:.3g} TFLOP"))
    return found + _stagnation(scores)


def _held(better: Point, worse: Point, why: str, when: str) -> _Verdict:
    apart = worse.less(better)
    low, high = apart.interval
    verdict = UNCLEAR if not apart.is_told else HOLDS if apart.value > 0 else AGAINST
    claim = f"LDM-{better.factor} before LDM-{worse.factor}"
    return _Verdict(claim, why, when, f"{apart.value:+.2g} ({low:+.2g} to {high:+.2g})", verdict)


def _stagnation(scores: Scores) -> list[_Verdict]:
    """Does LDM-32 gain less in its second half than LDM-8?"""
    slopes = [scores.tracks[f].late_slope if f in scores.tracks else None for f in (32, 8)]
    if slopes[0] is None or slopes[1] is None:
        return []
    verdict = HOLDS if slopes[0] < slopes[1] else AGAINST
    here = f"FD falls as steps^-{slopes[0]:.2f}, of LDM-8 as steps^-{slopes[1]:.2f}"
    return [_Verdict("LDM-32 stagnates", "too much compression loses too much", "second half of steps", here, verdict)]


def claim_table(scores: Scores) -> Table:
    rows = _found(scores)
    marked = frozenset((i, 4) for i, row in enumerate(rows) if row.verdict == AGAINST)
    caption = (
        "Rombach et al. 2022, section 4.1. Here: by how much the second one's FD is greater, with its 95% interval, "
        "over captions and seeds, not over trainings. Contradictions are marked; no interval stands beside a slope."
    )
    return Table(("published", "why", "at", "here", "verdict"), [row.row() for row in rows], ("here",), marked, caption)


def verdicts(scores: Scores) -> str:
    rows = _found(scores)
    if not rows:
        return "No factors that the paper compares were trained."
    against = [f"{row.claim} at {row.when}" for row in rows if row.verdict == AGAINST]
    unclear = sum(row.verdict == UNCLEAR for row in rows)
    told = f": {', '.join(against)}" if against else ""
    return (
        f"Of {len(rows)} comparisons that the paper's text makes or implies, {len(rows) - unclear - len(against)} hold "
        f"here, too, {unclear} lie within noise, {len(against)} are contradicted{told}."
    )
