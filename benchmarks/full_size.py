"""Stable Diffusion 1.5 at its full size with random weights: a picture of 512x512 beside diffusers, in 16 GB.

    python benchmarks/full_size.py [--repeats 3] [--steps 3] [--size full|tiny] [--threads 2] [--out report.json]

Writes the folder itself (4.3 GB in float32, temporary). The sides take turns, each in a fresh process that loads the
folder and paints one picture with guidance; the pictures of every turn are compared first, and differ by at most 1/255.
Prints medians (and ranges) of the time of painting, without loading, and of the peak resident memory, with it; --out
writes all numbers. Ends with 1 where the pictures disagree or have no contrast. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch
from PIL import Image, ImageStat
from safetensors.torch import save_file
from text_to_image import LARGEST_DIFFERENCE, SIDES, Painter, Row, largest_difference, table
from torch import nn

from latentbrush.formats.families import FAMILIES, Family, write_family
from latentbrush.formats.network import KINDS
from latentbrush.nn import AutoencoderConfig, AutoencoderKL, CLIPTextConfig, CLIPTextModel, UNet, UNetConfig

FULL = FAMILIES[768]
TINY = Family(
    "tiny",
    UNetConfig(channels=(32, 64, 64, 64), sample_size=8, context_width=64),
    AutoencoderConfig(channels=(32, 32, 32, 32)),
    CLIPTextConfig(width=64, layers=2, heads=4, mlp_width=128),
)
"""To try this script."""
MOST_MEMORY = 16_000
"""MB."""
LEAST_CONTRAST = 5.0
"""Standard deviation of the picture's greys, of 255: less would be a comparison of nothing with nothing."""


def write_model(folder: Path, family: Family) -> None:
    """A folder in float32, its weights as for a training that begins."""
    assert family.text is not None
    write_family(family, folder)
    torch.manual_seed(0)
    made: dict[str, nn.Module] = {
        "unet": UNet(family.unet),
        "vae": AutoencoderKL(family.autoencoder),
        "text_encoder": CLIPTextModel(family.text),
    }
    for part, network in made.items():
        stem, names = KINDS[part]
        state = {names.theirs(name): tensor.contiguous() for name, tensor in network.state_dict().items()}
        save_file(state, folder / part / f"{stem}.safetensors", metadata={"format": "pt"})


def take_turns(model: Path, folder: Path, repeats: int, steps: int, threads: int) -> tuple[list[Row], int]:
    """The figures, and the largest difference of the pictures, of 255. SystemExit for pictures that disagree."""
    wall, processor = Row("one picture, wall", "s"), Row("one picture, processor", "s")
    peak, worst = Row("peak memory", "MB"), 0
    for turn in range(repeats):
        for side in SIDES:
            painter = Painter(side, threads, folder / f"{side}.log", model)
            answer = painter.paint(count=1, steps=steps, seed=turn, out=str(folder / side))
            painter.close()
            wall.add(side, answer["seconds"])
            processor.add(side, answer["processor_seconds"])
            peak.add(side, answer["peak_mb"])
        contrast = ImageStat.Stat(Image.open(folder / f"{SIDES[0]}-0.png").convert("L")).stddev[0]
        difference = largest_difference(folder, 1)
        worst = max(worst, difference)
        if difference > LARGEST_DIFFERENCE or contrast < LEAST_CONTRAST:
            raise SystemExit(
                f"seed {turn}: {difference}/255 apart, contrast {contrast:.1f}: not the same picture of a thing"
            )
        print(f"seed {turn}: {difference}/255 apart, contrast {contrast:.1f}", flush=True)
    return [wall, processor, peak], worst


def main() -> None:
    parser = argparse.ArgumentParser(description="Stable Diffusion 1.5 at its full size, beside diffusers")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="a JSON file for all numbers")
    options = parser.parse_args()
    for name in ("repeats", "steps", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)} must be at least 1")
    with tempfile.TemporaryDirectory() as directory:
        model = Path(directory) / "model"
        model.mkdir()
        write_model(model, FULL if options.size == "full" else TINY)
        rows, worst = take_turns(model, Path(directory), options.repeats, options.steps, options.threads)
    print(table(rows))
    met = max(rows[-1].ours) <= MOST_MEMORY
    print(f"peak memory of at most {MOST_MEMORY} MB: {'met' if met else 'MISSED'}")
    if options.out:
        report = {
            "settings": {name: getattr(options, name) for name in ("repeats", "steps", "size", "threads")},
            "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
            "largest_difference": worst,
            "rows": [row.report() for row in rows],
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
