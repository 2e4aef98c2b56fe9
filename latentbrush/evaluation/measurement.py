"""What was measured, with all that the figure depends on; unlike measurements are not compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from latentbrush.errors import UserError, one_line, short
from latentbrush.files import read_json

__all__ = ["Figure", "Measurement", "PictureSource", "check_alike", "compared", "read_measurements"]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PictureSource(_Block):
    """`digest`: of the pixels as they were seen; `distinct`: how many of the `count` differ from one another. `size`:
    (height, width), None where only statistics are left."""

    name: str
    count: int
    distinct: int
    size: tuple[int, int] | None
    digest: str


class Figure(_Block):
    """A number, with its 95% interval, or the deviation that papers print beside it.

    `lower_is_better`: None for a number that is to be read, not to be raised or lowered.
    """

    value: float
    lower_is_better: bool | None
    interval: tuple[float, float] | None = None
    deviation: float | None = None

    @property
    def better(self) -> str:
        return {True: "lower", False: "higher", None: ""}[self.lower_is_better]

    @property
    def spread(self) -> str:
        if self.interval is not None:
            return f"{self.interval[0]:.4g} to {self.interval[1]:.4g}"
        return "" if self.deviation is None else f"± {self.deviation:.2g}"


class Measurement(_Block):
    """`extractor`: an `ExtractorIdentity`, None where no features were compared; `settings`: of the metric, its seed
    among them, and nothing that was found; `painted`: the model that was measured, and how it painted."""

    metric: str
    figures: Mapping[str, Figure]
    pictures: PictureSource
    data: PictureSource | None
    extractor: Mapping[str, str | int] | None
    settings: Mapping[str, Any]
    painted: Mapping[str, Any] | None = None
    versions: Mapping[str, str]


LIKE: Mapping[str, Callable[[Measurement], Any]] = {
    "the metric": lambda one: one.metric,
    "the extractor's weights": lambda one: (one.extractor or {}).get("digest"),
    "the extractor's resize filter": lambda one: [(one.extractor or {}).get(key) for key in ("resize", "side")],
    "the extractor's precision": lambda one: (one.extractor or {}).get("precision"),
    "the number of pictures": lambda one: one.pictures.count,
    "the pictures' size": lambda one: one.pictures.size,
    "the data": lambda one: None if one.data is None else (one.data.count, one.data.digest),
    "the settings": lambda one: dict(one.settings),
    "the seed of the paintings": lambda one: None if one.painted is None else one.painted.get("seed"),
}
"""What two figures must share to be compared. A folder's pictures have no seed, and are compared with any."""


def check_alike(measurements: Sequence[tuple[str, Measurement]]) -> None:
    """UserError, naming what differs with both values, unless all measurements, named, can be compared."""
    (first_name, first), *others = measurements
    for name, other in others:
        for what, of in LIKE.items():
            a, b = of(first), of(other)
            if a != b and not (what.startswith("the seed") and None in (a, b)):
                told = f"{short(a)} and {short(b)}"
                raise UserError(f"{what} of {first_name} and {name} differ: {told}; measure both alike to compare")


def compared(evaluations: Sequence[tuple[str, Sequence[Measurement]]]) -> list[list[str]]:
    """A row a figure that all evaluations, named, have: its name, its values, and which is better.

    UserError as `check_alike`, and where they have no metric in common.
    """
    tables = [(name, {one.metric: one for one in found}) for name, found in evaluations]
    common = [metric for metric in tables[0][1] if all(metric in table for _, table in tables)]
    if not common:
        told = "; ".join(f"{name} has {', '.join(table) or 'none'}" for name, table in tables)
        raise UserError(f"there is no metric in common ({told}); measure the same to compare")
    rows = []
    for metric in common:
        alike = [(name, table[metric]) for name, table in tables]
        check_alike(alike)
        first = alike[0][1]
        for figure in first.figures:
            values = [one.figures[figure] for _, one in alike if figure in one.figures]
            if len(values) == len(alike):
                cells = [f"{value.value:.4g} {value.spread and f'({value.spread})'}".strip() for value in values]
                rows.append([figure, *cells, values[0].better])
    return rows


def read_measurements(path: Path) -> list[Measurement]:
    """The measurements of a file that an evaluation wrote. UserError for any other."""
    content = read_json(path)
    try:
        return [Measurement.model_validate(one) for one in content["measurements"]]
    except KeyError:
        raise UserError(f"{path} holds no measurements; give a metrics.json that an evaluation wrote") from None
    except (ValidationError, TypeError) as error:
        told = one_line(error) if isinstance(error, ValidationError) else "measurements are no list"
        raise UserError(f"{path}: {told}; give a metrics.json that an evaluation wrote") from None
