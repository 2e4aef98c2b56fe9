"""The linear layer of nn/linear.py beside torch's own: python benchmarks/linear.py [--repeats 30] [--threads 2]

Sizes are those of the shipped model and of Stable Diffusion 1 at 512x512. Both are checked to agree first, then take
turns; prints the medians of billions of operations a second, forwards and with the gradients, and the ratio of times
(below 1: ours is quicker). What it gains depends on the processor: MKL takes the widest instructions on Intel's alone.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from latentbrush.nn.linear import Linear

SIZES = {
    "shipped, text tower": (2048, 192, 768),
    "shipped, finer level": (1024, 96, 768),
    "Stable Diffusion, 64x64": (4096, 320, 2560),
    "Stable Diffusion, 32x32": (1024, 640, 5120),
    "Stable Diffusion, words": (77, 768, 3072),
}
"""Rows, numbers in, numbers out."""


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def both_ways(layer: nn.Linear, x: Tensor) -> tuple[Callable[[], object], Callable[[], object]]:
    """The layer forwards, and forwards and backwards."""

    def forwards() -> None:
        with torch.no_grad():
            layer(x)

    def backwards() -> None:
        layer.zero_grad(set_to_none=True)
        layer(x.detach().requires_grad_()).sum().backward()

    return forwards, backwards


def main() -> None:
    parser = argparse.ArgumentParser(description="the linear layer beside torch's own")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.repeats < 1 or options.threads < 1:
        parser.error("--repeats and --threads must be at least 1")
    torch.set_num_threads(options.threads)
    print(f"{'':26}{'forwards':>28}{'with gradients':>28}\n{'':26}" + f"{'ours':>9}{'torch':>9}{'ratio':>10}" * 2)
    for name, (rows, wide, out) in SIZES.items():
        ours, theirs, x = Linear(wide, out), nn.Linear(wide, out), torch.randn(rows, wide)
        theirs.load_state_dict(ours.state_dict())
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
        cells = []
        for mine, other, times in zip(both_ways(ours, x), both_ways(theirs, x), (2, 6), strict=True):
            mine(), other()
            turns = [(seconds(mine), seconds(other)) for _ in range(options.repeats)]
            work = times * rows * wide * out / 1e9
            ratio = median(a / b for a, b in turns)
            cells += [work / median(a for a, _ in turns), work / median(b for _, b in turns), ratio]
        print(f"{name:26}" + "".join(f"{cell:9.0f}" if i % 3 < 2 else f"{cell:10.2f}" for i, cell in enumerate(cells)))


if __name__ == "__main__":
    main()
