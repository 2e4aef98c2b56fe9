"""latentbrush beside diffusers: opening a Stable Diffusion 1.5 folder of full size; time, memory, and equal tensors.

    python benchmarks/loading.py [--repeats 5] [--size full|tiny] [--dtypes float16,float32] [--out report.json]

Writes the folder itself, of random weights in each type (2.1 and 4.3 GB, one at a time, in a temporary folder), and
checks first that both sides hold the same tensors, by name and bit. Then the sides take turns, each in a fresh process:

- fresh process: from its start, libraries and all, until it is ready, which is what whoever opens a model waits for;
- opened: from the call that loads to its return; here every number is read then, for what is not finite is refused;
- ready: until every number has been read once, for libraries may leave them in the file until they are needed;
- peak memory: the most that the process ever had resident, mapped pages of the file included, less what the libraries
  had taken before; in relation to the size of the folder.

The files lie in the system's cache by then, so that no disk is measured. Prints medians (and ranges) as a table; --out
writes all numbers. Ends with 1 where the tensors are not equal. Linux only. `--size tiny` is there to try the script:
of so small a folder the rest of opening, a vocabulary above all, takes more than its weights.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from text_to_image import SIDES, Row, table

from latentbrush.files import read_json, write_json
from latentbrush.formats.families import FAMILIES, Family, write_family
from latentbrush.formats.network import KINDS
from latentbrush.formats.single import empty_networks

WORKER = Path(__file__).with_name("loader.py")
STABLE_DIFFUSION = FAMILIES[768]
DTYPES = ("float16", "float32")
MOST_MEMORY = 1.15
"""Of the folder's size: what opening it may take in resident memory."""
SPARE = 1.2
"""So many times a folder's size must be free on the disk."""


def family(size: str) -> Family:
    """Stable Diffusion 1 as published, or with a hundredth of its numbers, to try this script."""
    if size == "full":
        return STABLE_DIFFUSION
    first = STABLE_DIFFUSION
    assert first.text is not None
    return replace(
        first,
        unet=replace(first.unet, channels=(32, 64, 96, 96), context_width=64),
        autoencoder=replace(first.autoencoder, channels=(32, 32, 32, 32)),
        text=replace(first.text, width=64, layers=2, heads=4, mlp_width=128),
    )


def write_model(folder: Path, wanted: Family, dtype: torch.dtype) -> int:
    """A folder of random weights; returns its bytes."""
    write_family(wanted, folder)
    for part, network in empty_networks(folder).items():
        generator, (stem, names) = torch.Generator().manual_seed(len(part)), KINDS[part]
        state = {
            names.theirs(name): (0.02 * torch.randn(tensor.shape, generator=generator)).to(dtype)
            for name, tensor in network.state_dict().items()
        }
        save_file(state, folder / part / f"{stem}.safetensors", metadata={"format": "pt"})
    config = folder / "text_encoder" / "config.json"
    write_json(config, {**read_json(config), "dtype": str(dtype).removeprefix("torch.")})
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def asked(side: str, folder: Path, dtype: str, *more: str) -> dict[str, Any]:
    """The answer of a fresh process of one side."""
    command = [sys.executable, str(WORKER), side, str(folder), dtype, *more]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def check_equal(folder: Path, dtype: str) -> None:
    """SystemExit unless both sides hold the same tensors."""
    ours, theirs = (asked(side, folder, dtype, "digest") for side in SIDES)
    apart = [part for part in ours if ours[part] != theirs.get(part)]
    if apart or ours.keys() != theirs.keys():
        raise SystemExit(f"in {dtype} the sides do not hold the same tensors: {', '.join(apart) or 'other parts'}")
    print(f"{dtype}: both sides hold the same tensors")


def measure(folder: Path, dtype: str, size: int, repeats: int) -> list[Row]:
    """One row a figure, the sides in turn."""
    process = Row(f"{dtype}, fresh process, until ready", "s", limit=1.0)
    opened, processor = Row(f"{dtype}, opened", "s"), Row(f"{dtype}, opened, processor", "s")
    ready = Row(f"{dtype}, ready", "s")
    peak_opened = Row(f"{dtype}, peak memory to open", "of the folder")
    peak_ready = Row(f"{dtype}, peak memory to be ready", "of the folder")
    whole = Row(f"{dtype}, peak memory, libraries too", "MB")
    for _ in range(repeats):
        for side in SIDES:
            start = time.perf_counter()
            told = asked(side, folder, dtype)
            process.add(side, time.perf_counter() - start)
            opened.add(side, told["opened"])
            processor.add(side, told["processor"])
            ready.add(side, told["ready"])
            peak_opened.add(side, (told["peak_opened"] - told["libraries"]) / size)
            peak_ready.add(side, (told["peak_ready"] - told["libraries"]) / size)
            whole.add(side, told["peak_ready"] / 1e6)
    return [process, opened, processor, ready, peak_opened, peak_ready, whole]


def memory_met(rows: list[Row]) -> bool:
    """Whether no opening here took more memory than it may."""
    return all(max(row.ours) <= MOST_MEMORY for row in rows if row.unit == "of the folder")


def main() -> None:
    parser = argparse.ArgumentParser(description="latentbrush beside diffusers, opening a Stable Diffusion 1.5 folder")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--dtypes", default=",".join(DTYPES))
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    parser.add_argument("--out", type=Path, help="a JSON file for all numbers")
    options = parser.parse_args()
    dtypes = options.dtypes.split(",")
    if options.repeats < 1 or not set(dtypes) <= set(DTYPES):
        parser.error(f"--repeats must be at least 1, --dtypes some of {','.join(DTYPES)}")
    rows: list[Row] = []
    sizes = {}
    for dtype in dtypes:
        with tempfile.TemporaryDirectory(dir=options.folder) as directory:
            needed, free = SPARE * (4.3e9 if options.size == "full" else 1e8), shutil.disk_usage(directory).free
            if free < needed:
                raise SystemExit(
                    f"{needed / 1e9:.1f} GB are needed in {directory}, {free / 1e9:.1f} are free (--folder)"
                )
            folder = Path(directory)
            sizes[dtype] = write_model(folder, family(options.size), getattr(torch, dtype))
            check_equal(folder, dtype)
            rows += measure(folder, dtype, sizes[dtype], options.repeats)
    print(table(rows))
    verdict = "met" if memory_met(rows) else "MISSED"
    print(f"peak memory of at most {MOST_MEMORY} times the folder, every time: {verdict}")
    if options.out:
        report = {
            "settings": {"repeats": options.repeats, "size": options.size, "dtypes": dtypes},
            "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
            "versions": {name: version(name) for name in ("torch", "diffusers", "transformers", "safetensors")},
            "bytes": sizes,
            "most_memory": MOST_MEMORY,
            "memory_met": memory_met(rows),
            "rows": [row.report() for row in rows],
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
