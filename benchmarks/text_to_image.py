"""latentbrush beside diffusers: both paint with the shipped model; time, memory, and whether the pictures agree.

    python benchmarks/text_to_image.py [--repeats 5] [--steps 20] [--threads 2] [--out report.json]

First the same pictures are painted on both sides, and differ by at most 1/255. Then the sides take turns, so that
whatever else the machine does disturbs both alike, and each ratio is of two neighbours:

- cold: a fresh Python process imports, loads, paints one picture and saves it; from its start to its end;
- warm: a process that has painted before paints one more picture, and a batch of 16.

"wall" is the time that passes, "processor" what the process itself used of it, in all threads, which a busy machine
disturbs less. Peak memory is the resident set's. Prints medians (and the range) as a table; --out writes all numbers.
Ends with 1 where the pictures disagree.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image, ImageChops

SIDES = ("latentbrush", "diffusers")
WORKER = Path(__file__).with_name("painter.py")
BATCH = 16
LARGEST_DIFFERENCE = 1
"""Of 255: values are rounded, and where they lie near a half, either side may fall."""


@dataclass
class Row:
    """One measurement on both sides, taken in turn. `limit`: on the ratio of latentbrush's to diffusers'."""

    name: str
    unit: str
    limit: float | None = None
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    def add(self, side: str, value: float) -> None:
        (self.ours if side == SIDES[0] else self.theirs).append(value)

    @property
    def ratios(self) -> list[float]:
        return [mine / yours for mine, yours in zip(self.ours, self.theirs, strict=True)]

    def cells(self) -> tuple[str, ...]:
        wanted = "" if self.limit is None else f"{self.limit:.2f} {'met' if self.met else 'MISSED'}"
        return f"{self.name} [{self.unit}]", spread(self.ours), spread(self.theirs), spread(self.ratios), wanted

    @property
    def met(self) -> bool:
        return self.limit is None or median(self.ratios) <= self.limit

    def report(self) -> dict[str, Any]:
        return {**asdict(self), "ratios": self.ratios, "ratio": median(self.ratios), "met": self.met}


def spread(values: list[float]) -> str:
    digits = 0 if median(values) >= 100 else 2
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def table(rows: list[Row]) -> str:
    lines = [("median (range)", *SIDES, "ratio", "at most"), *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


class Painter:
    """A process of one side that paints to order, with the shipped model if no folder is named; see painter.py."""

    def __init__(self, side: str, threads: int, errors: Path, model: Path | None = None) -> None:
        self.side, self.errors = side, errors
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        with errors.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(WORKER), side, *([] if model is None else [str(model)])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
            )

    def paint(self, **order: Any) -> dict[str, float]:
        """Its answer: seconds, processor_seconds, process_seconds, peak_mb."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise SystemExit(f"{self.side} failed:\n{self.errors.read_text()[-2000:]}")
        answer: dict[str, float] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def painters(threads: int, folder: Path) -> Iterator[list[Painter]]:
    """One of each side, alive together; only one works at a time."""
    both = [Painter(side, threads, folder / f"{side}.log") for side in SIDES]
    try:
        yield both
    finally:
        for painter in both:
            painter.close()


def largest_difference(folder: Path, count: int) -> int:
    """Of 255, between the pictures that both sides have painted into `folder`."""
    pairs = [[Image.open(folder / f"{side}-{i}.png").convert("RGB") for side in SIDES] for i in range(count)]
    return max(high for pair in pairs for _, high in ImageChops.difference(*pair).getextrema())


def measure_warm(both: list[Painter], repeats: int, steps: int) -> list[Row]:
    rows = []
    for count, name in ((1, "warm, one picture"), (BATCH, f"warm, batch of {BATCH}")):
        wall, processor = Row(f"{name}, wall", "s", limit=1.0), Row(f"{name}, processor", "s")
        for turn in range(-1, repeats):  # the first turn only warms up
            for painter in both:
                answer = painter.paint(count=count, steps=steps, seed=0)
                if turn >= 0:
                    wall.add(painter.side, answer["seconds"])
                    processor.add(painter.side, answer["processor_seconds"])
        rows += [wall, processor]
    peak = Row("warm, peak memory", "MB")
    for painter in both:
        peak.add(painter.side, painter.paint(count=1, steps=1, seed=0)["peak_mb"])
    return [*rows, peak]


def measure_cold(folder: Path, repeats: int, steps: int, threads: int) -> list[Row]:
    wall, processor = Row("cold, wall", "s", limit=0.5), Row("cold, processor", "s")
    peak = Row("cold, peak memory", "MB")
    for _ in range(repeats):
        for side in SIDES:
            start = time.perf_counter()
            painter = Painter(side, threads, folder / f"{side}.log")
            answer = painter.paint(count=1, steps=steps, seed=0, out=str(folder / side))
            painter.close()
            wall.add(side, time.perf_counter() - start)
            processor.add(side, answer["process_seconds"])
            peak.add(side, answer["peak_mb"])
    return [wall, processor, peak]


def main() -> None:
    parser = argparse.ArgumentParser(description="latentbrush beside diffusers, painting with the shipped model")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="a JSON file for all numbers")
    options = parser.parse_args()
    for name in ("repeats", "steps", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)} must be at least 1")
    with tempfile.TemporaryDirectory() as directory:
        folder, count = Path(directory), 4
        with painters(options.threads, folder) as both:
            for painter in both:
                painter.paint(count=count, steps=options.steps, seed=0, out=str(folder / painter.side))
            difference = largest_difference(folder, count)
            print(f"{count} pictures of {options.steps} steps differ by at most {difference}/255")
            if difference > LARGEST_DIFFERENCE:
                raise SystemExit(f"more than {LARGEST_DIFFERENCE}/255: the sides do not paint the same")
            warm = measure_warm(both, options.repeats, options.steps)
        rows = measure_cold(folder, options.repeats, options.steps, options.threads) + warm
    print(table(rows))
    if options.out:
        report = {
            "settings": {name: getattr(options, name) for name in ("repeats", "steps", "threads")},
            "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
            "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
            "largest_difference": difference,
            "rows": [row.report() for row in rows],
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
