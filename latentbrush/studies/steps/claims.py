"""What the papers say of one sampler beside another, to be held against what was measured."""

from __future__ import annotations

from dataclasses import dataclass

from latentbrush.reporting import Table
from latentbrush.studies.steps.scores import Scores

__all__ = ["CLAIMS", "Claim", "claim_table", "verdicts"]


@dataclass(frozen=True)
class Claim:
    """At so many network calls the pictures of `better` have a lower Fréchet distance than those of `worse`."""

    better: str
    worse: str
    calls: tuple[int, ...]
    source: str


CLAIMS = (
    Claim("ddim", "ddpm", (10, 20, 50), "Song et al. 2021 (DDIM), table 1"),
    Claim("plms", "ddim", (10, 20, 50), "Liu et al. 2022 (PNDM)"),
    Claim("deis", "ddim", (5, 10, 20), "Zhang and Chen 2023 (DEIS)"),
    Claim("dpmpp_2m", "ddim", (10, 20), "Lu et al. 2022 (DPM-Solver++)"),
    Claim("dpmpp_2m", "dpmpp_2s", (10, 20), "Lu et al. 2022 (DPM-Solver++)"),
    Claim("unipc", "dpmpp_2m", (5, 10), "Zhao et al. 2023 (UniPC)"),
    Claim("heun", "euler", (50,), "Karras et al. 2022, figure 2"),
    Claim("euler-karras", "euler", (20, 50), "Karras et al. 2022, figure 2"),
    Claim("heun-karras", "heun", (20, 50), "Karras et al. 2022, figure 2"),
)


def _rows(scores: Scores) -> list[tuple[str, list[str]]]:
    rows = []
    for claim in CLAIMS:
        for budget in claim.calls:
            pair = scores.get(claim.better, budget), scores.get(claim.worse, budget)
            if pair[0] is None or pair[1] is None:
                continue
            apart = scores.difference(pair[0], pair[1])
            verdict = "holds" if apart.low > 0 else "contradicted" if apart.high < 0 else "not told apart"
            here = f"{apart.estimate:+.2g} ({apart.low:+.2g} to {apart.high:+.2g})"
            rows.append((verdict, [f"{claim.better} before {claim.worse}", str(budget), claim.source, here, verdict]))
    return rows


def claim_table(scores: Scores) -> Table:
    rows = _rows(scores)
    marked = frozenset((i, 4) for i, (verdict, _) in enumerate(rows) if verdict == "contradicted")
    caption = (
        "By how much the second one's FD is greater, with its 95% interval, which is too wide rather than too narrow: "
        "some differences go untold. Contradictions are marked."
    )
    columns = ("published", "calls", "source", "here", "verdict")
    return Table(columns, [row for _, row in rows], ("calls", "here"), marked, caption)


def verdicts(scores: Scores) -> str:
    rows = _rows(scores)
    against = [f"{row[0]} at {row[1]}" for verdict, row in rows if verdict == "contradicted"]
    if not rows:
        return "No pair of samplers that papers compare was measured."
    unclear = sum(verdict == "not told apart" for verdict, _ in rows)
    told = f": {', '.join(against)}" if against else ""
    return (
        f"Of {len(rows)} published comparisons: {len(rows) - unclear - len(against)} found here, too, {unclear} within "
        f"noise, {len(against)} contradicted{told}."
    )
