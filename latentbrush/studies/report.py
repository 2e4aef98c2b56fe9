"""The page of an evaluation: all figures with their spread, and what they are figures of."""

from __future__ import annotations

from collections.abc import Sequence

from latentbrush.evaluation.measurement import Measurement
from latentbrush.reporting import Item, Page, Paragraph, Section, Table
from latentbrush.studies.exhibits import some_pictures
from latentbrush.studies.jobs import Outcome, captions_of
from latentbrush.studies.measuring import Evaluation
from latentbrush.studies.painted import PaintedPictures

__all__ = ["evaluation_page", "measured_by"]

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
    told = [Paragraph(line, note=True) for line in measured_by(found)]
    sections = [Section("Figures", [_table(found), *told, *(Paragraph(note, note=True) for note in notes)])]
    if any(measurement.metric not in ("reconstruction", "bpd", "composition") for measurement in found):
        sections.append(Section("Pictures", some_pictures(pictures, captions)))
    for outcome in outcomes:
        shown: Sequence[Item] = outcome.look()
        if shown:
            sections.append(Section(TITLES[outcome.measurement.metric], shown))
    real = next((one.data for one in found if one.data is not None), None)
    beside = "" if real is None else f" beside {real.count or 'an unknown number of'} real ones of {real.name}"
    lead = f"{len(pictures)} pictures of {pictures.name}{beside}."
    return Page(f"Evaluation of {pictures.name}", lead, sections, _about(found[0]))


def _table(found: Sequence[Measurement]) -> Table:
    rows = [
        [name, f"{one.value:.4g}", one.spread, one.better, measurement.metric]
        for measurement in found
        for name, one in measurement.figures.items()
    ]
    caption = (
        "Spread: the 95% interval, or ± the deviation that papers print beside the figure. KID and bits of latents may "
        "lie below 0. The definitions stand in docs/evaluation.md."
    )
    return Table(("figure", "value", "spread", "better", "metric"), rows, numbers=("value",), caption=caption)


def measured_by(found: Sequence[Measurement]) -> list[str]:
    """By which networks, a line each."""
    lines = []
    for one in found:
        if one.extractor is not None:
            told = one.extractor
            lines.append(f"features: {told['name']} at {told['side']} pixels ({told['resize']}, {told['precision']})")
        if "PSIM" in one.settings:
            lines.append(f"PSIM: {one.settings['PSIM']}")
    return list(dict.fromkeys(lines))


def _about(one: Measurement) -> list[tuple[str, str]]:
    told = [(f"extractor, {name}", str(value)) for name, value in (one.extractor or {}).items()]
    if one.painted is not None:
        told += [
            (name, str(one.painted[name])) for name in ("sampler", "steps", "guidance", "seed") if name in one.painted
        ]
        told += [(f"weights of {name}", str(value)) for name, value in one.painted["model"]["weights"].items()]
    return [*told, *((f"version of {name}", value) for name, value in one.versions.items())]
