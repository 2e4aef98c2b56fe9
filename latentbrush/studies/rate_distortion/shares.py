"""Where the bits of a picture go: to what it is, to details, and to what nobody sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["RECOGNISED", "SLACK", "Shares", "rate_where", "shares_of"]

RECOGNISED = 0.95
"""Share of what the first stage leaves recognisable; then the picture's meaning is sent."""
SLACK = 1.1
"""Times the first stage's own error; then the estimate is as good as the first stage lets it be."""


@dataclass(frozen=True)
class Shares:
    """Bits per dimension at which something is reached, along the way from noise to pixels.

    `semantic`: pictures are recognised; `detail`: the error is the first stage's; `stage`: the first stage is sent, by
    the diffusion model as its prior where there is one to count by, else by its own; `lossless`: every byte, and
    `lossless_by`: by what. None for what is not reached, or not there.
    """

    semantic: float | None
    detail: float | None
    stage: float | None
    lossless: float
    lossless_by: str

    @property
    def imperceptible(self) -> float | None:
        """The share of the lossless bits that the first stage need not send."""
        return None if self.stage is None else 1 - self.stage / self.lossless

    @property
    def meaning(self) -> float | None:
        return None if self.semantic is None else self.semantic / self.lossless


def rate_where(levels: Sequence[Mapping[str, float]], name: str, goal: float, *, below: bool) -> float | None:
    """The least rate from which on the figure stays at or below (above) the goal, on straight lines between levels;
    None where the last one does not reach it."""
    sign = 1.0 if below else -1.0
    missed = [sign * (level[name] - goal) for level in levels]
    if missed[-1] > 0:
        return None
    last = max((i for i, value in enumerate(missed) if value > 0), default=None)
    if last is None:
        return levels[0]["rate"]
    part = missed[last] / (missed[last] - missed[last + 1])
    low, high = levels[last]["rate"], levels[last + 1]["rate"]
    return low + part * (high - low)


def shares_of(curve: Mapping[str, Any], codes: Sequence[Mapping[str, Any]]) -> Shares:
    """Of one curve and the known codes of the same pictures, of which the last is lossless PNG."""
    stage, levels = curve["first_stage"], curve["levels"]
    png = next(code for code in reversed(codes) if code["kind"] == "PNG")
    own = curve["picture_bits"]
    lossless, by = (own, "the model's bound") if own is not None and own < png["rate"] else (png["rate"], "PNG")
    if stage["kind"] == "none":
        semantic = rate_where(levels, "recognised", RECOGNISED, below=False)
        return Shares(semantic, None, None, lossless, by)
    learned = stage.get("learned")
    return Shares(
        semantic=rate_where(levels, "recognised", RECOGNISED * stage["recognised"], below=False),
        detail=rate_where(levels, "rmse", SLACK * stage["rmse"], below=True),
        stage=stage["standard"] if learned is None else learned,
        lossless=lossless,
        lossless_by=by,
    )
