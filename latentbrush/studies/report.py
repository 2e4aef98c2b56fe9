"""The page of an evaluation: all figures with their spread, and what they are figures of."""

from __future__ import annotations

from collections.abc import Sequence

from latentbrush.evaluation.measurement import Measurement, Value
from latentbrush.reporting import Item, Page, Paragraph, Section, Table
from latentbrush.studies.exhibits import some_pictures
from latentbrush.studies.jobs import Outcome, captions_of
from latentbrush.studies.measuring import Evaluation
from latentbrush.studies.painted import PaintedPictures

__all__ = ["evaluation_page", "spoken_spread"]

TITLES = {
    "clip-score": "Pictures and their captions",
    "memorisation": "Beside what was trained on",
    "reconstruction": "Through the first stage and back",
    "bpd": "What the bits buy",
    "composition": "Composition",
}


def evaluation_page(outcomes: Sequence[Outcome], notes: Sequence[str], evaluation: Evaluation) -> Page:
    """Of all that was measured; `notes`: warnings, and what was left out."""
    found = [outcome.measurement for outcome in outcomes]
    pictures = evaluation.pictures
    captions = captions_of(pictures) if isinstance(pictures, PaintedPictures) else None
    sections = [Section("Figures", [_table(found), *(Paragraph(note, note=True) for note in notes)])]
    if any(measurement.metric not in ("reconstruction", "bpd") for measurement in found):
        sections.append(Section("Pictures", some_pictures(pictures, captions)))
    for outcome in outcomes:
        shown: Sequence[Item] = outcome.look()
        if shown:
            sections.append(Section(TITLES[outcome.measurement.metric], shown))
    real = evaluation.real
    beside = "" if real is None else f" beside {real.count or 'an unknown number of'} real ones of {real.name}"
    lead = f"{len(pictures)} pictures of {pictures.name}{beside}."
    return Page(f"Evaluation of {pictures.name}", lead, sections, _about(found[0]))


def _table(found: Sequence[Measurement]) -> Table:
    rows = [
        [name, f"{one.value:.4g}", spoken_spread(one), "lower" if one.lower_is_better else "higher", measurement.metric]
        for measurement in found
        for name, one in measurement.figures.items()
    ]
    caption = "Spread: the 95% interval, or ± the deviation that papers print beside the figure."
    return Table(("figure", "value", "spread", "better", "metric"), rows, numbers=("value",), caption=caption)


def spoken_spread(one: Value) -> str:
    """A 95% interval, or a deviation."""
    if one.interval is not None:
        return f"{one.interval[0]:.4g} to {one.interval[1]:.4g}"
    return "" if one.deviation is None else f"± {one.deviation:.2g}"


def _about(one: Measurement) -> list[tuple[str, str]]:
    told = [(f"extractor, {name}", str(value)) for name, value in one.extractor.items()]
    if one.painted is not None:
        told += [
            (name, str(one.painted[name])) for name in ("sampler", "steps", "guidance", "seed") if name in one.painted
        ]
        told += [(f"weights of {name}", str(value)) for name, value in one.painted["model"]["weights"].items()]
    return [*told, *((f"version of {name}", value) for name, value in one.versions.items())]
