"""Write docs/compatibility.md: which published models open here, and which scheduler is which sampler.

    python docs/compatibility.py

Rows stand in docs/compatibility.yaml; what of a row holds is read from the tests, which pytest collects and does not
run: a test says with @pytest.mark.compatible(row, column) what it shows. That they pass is what `make test` and
`make test-slow` are for.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from latentbrush.formats.scheduler_classes import CLASSES, PATHS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
ROWS = ROOT / "docs" / "compatibility.yaml"
COLUMNS = {
    "size": "true size",
    "folder": "opens diffusers' folder, paints as it does",
    "save": "diffusers opens ours",
    "file": "single file",
    "samplers": "every scheduler",
}
"""What a test may show of a model -> the column's head."""

Shown = Mapping[str, Mapping[str, list[str]]]
"""Row -> column -> the tests' files."""


class Collector:
    """A plugin of pytest that notes which tests are marked."""

    def __init__(self) -> None:
        self.shown: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for mark in item.iter_markers("compatible"):
                row, *columns = mark.args
                for column in columns:
                    self.shown[row][column].append(item.path.relative_to(ROOT).as_posix())


def collected() -> Shown:
    """What the tests are marked with. SystemExit where they cannot be collected."""
    collector = Collector()
    folders = [str(ROOT / "tests" / name) for name in ("parity", "formats", "cli")]
    code = pytest.main(
        ["--collect-only", "-o", "addopts=--strict-markers", "-p", "no:terminal", "-p", "no:cacheprovider", *folders],
        plugins=[collector],
    )
    if code:
        sys.exit(f"the tests could not be collected (pytest's code {int(code)})")
    return collector.shown


def page(rows: Mapping[str, Mapping[str, str]], shown: Shown) -> str:
    """The page in Markdown. ValueError for a mark that names no row or no column."""
    for row, columns in shown.items():
        if row not in rows:
            raise ValueError(f"a test is marked compatible with {row!r}, which {ROWS.name} has not")
        if unknown := sorted(columns.keys() - COLUMNS.keys()):
            raise ValueError(f"a test shows {', '.join(unknown)} of {row}; columns are {', '.join(COLUMNS)}")
    lines = [
        "# Compatibility",
        "",
        "Written by `python docs/compatibility.py` from the tests: a link leads to those that show it, on",
        "random weights in the true architecture. *True size*: the published configuration has as many",
        "parameters as published, or as diffusers' own network of it. *Paints as it does*: latents after",
        "every step within 2e-5 of the greatest, and pictures within 1/255, for several seeds, numbers of",
        "steps and weights of guidance. For LDM's classes and inpainting diffusers has no pipeline: there its",
        "networks and schedulers are the measure. *Every scheduler*: those below, but for",
        "DPMSolverSDEScheduler, which draws from another library, and, where a picture begins from a guide,",
        "PNDM's Runge-Kutta steps and LMS, for which diffusers then has the wrong steps or weights. A dash is",
        "what is not there, or not tested.",
        "",
        "| model | use | " + " | ".join(COLUMNS.values()) + " |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    for name, row in rows.items():
        cells = [_links(shown.get(name, {}).get(column, [])) for column in COLUMNS]
        lines.append(f"| {row['name']} | {row['use']} | " + " | ".join(cells) + " |")
    lines += ["", "## Schedulers", "", *_schedulers()]
    return "\n".join(lines) + "\n"


def _links(files: list[str]) -> str:
    return ", ".join(f"[{Path(file).stem.removeprefix('test_')}](../{file})" for file in dict.fromkeys(files)) or "–"


def _schedulers() -> list[str]:
    """A row for each scheduler class that is read from scheduler_config.json and written there."""
    lines = [
        "What `scheduler/scheduler_config.json` names, and the `--sampler` that it is here. An unknown setting is an",
        "error.",
        "",
        "| class in diffusers | where | sampler | sigmas | zero SNR | thresholding |",
        "|---|---|---|---|---|---|",
    ]
    for row in CLASSES:
        where = ", ".join(f"`{key}={_values(values)}`" for key, (_, values) in row.when.items())
        sigmas = ", ".join(PATHS.values()) if row.paths else "–"
        marks = " | ".join("yes" if has else "–" for has in (row.zero_snr, row.thresholds))
        lines.append(f"| {row.name} | {where} | `{row.sampler}` | {sigmas} | {marks} |")
    return lines


def _values(values: tuple[Any, ...]) -> str:
    return " or ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values)


def main() -> None:
    rows = yaml.safe_load(ROWS.read_text(encoding="utf-8"))
    PAGE.write_text(page(rows, collected()), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
