"""FID and PSNR beside torchmetrics' own: python benchmarks/metrics.py [--pictures 2000] [--repeats 5] [--threads 2]

Both sides get the same pictures and, for FID, features of the same shipped CLIP, so that what is timed is the metric:
features are taken once by each side, statistics are gathered batch by batch, and the distance is computed. Results are
checked to agree first; then the sides take turns. Prints medians of seconds, the ratio of times (below 1: ours is
quicker) with its range, and the memory that gathering 10,000 pictures adds.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from torchmetrics.image import PeakSignalNoiseRatio
from torchmetrics.image.fid import FrechetInceptionDistance

from latentbrush.evaluation import frechet_distance, psnr
from latentbrush.evaluation.clip_extractor import CLIPExtractor
from latentbrush.evaluation.gather import gather

BATCH, SIDE = 64, 64


class Pictures:
    """Noise, made when it is read, so that what grows with its number is the metric's."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.name = count, seed, f"noise {seed}"

    def __len__(self) -> int:
        return self.count

    def read(self, first: int, end: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + first)
        low = torch.randint(0, 256, (end - first, 3, SIDE // 8, SIDE // 8), generator=generator).float()
        return nn.functional.interpolate(low, scale_factor=8.0, mode="bilinear").round().to(torch.uint8)


class Network(nn.Module):
    """The shipped CLIP in torchmetrics' clothes."""

    def __init__(self, extractor: CLIPExtractor) -> None:
        super().__init__()
        self.extractor, self.num_features = extractor, 128

    def forward(self, pictures: Tensor) -> Tensor:
        return self.extractor(pictures).pooled


def our_fid(extractor: CLIPExtractor, count: int) -> float:
    painted, real = (gather(Pictures(count, seed), extractor, batch=BATCH) for seed in (0, 1))
    return frechet_distance(painted.moments, real.moments)


def their_fid(extractor: CLIPExtractor, count: int) -> float:
    metric = FrechetInceptionDistance(Network(extractor), input_img_size=(3, SIDE, SIDE)).set_dtype(torch.float64)
    for seed in (0, 1):
        pictures = Pictures(count, seed)
        for first in range(0, count, BATCH):
            metric.update(pictures.read(first, min(first + BATCH, count)), real=seed == 1)
    return float(metric.compute())


def our_psnr(first: Tensor, second: Tensor) -> float:
    return float(torch.cat([psnr(a, b) for a, b in pairs(first, second)]).mean())


def their_psnr(first: Tensor, second: Tensor) -> float:
    metric = PeakSignalNoiseRatio(data_range=255.0, reduction="elementwise_mean", dim=(1, 2, 3))
    for a, b in pairs(first, second):
        metric.update(a.float(), b.float())
    return float(metric.compute())


def pairs(first: Tensor, second: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(first.split(BATCH), second.split(BATCH), strict=True))


def compare(name: str, ours: Callable[[], float], theirs: Callable[[], float], repeats: int) -> None:
    mine, other = ours(), theirs()
    if abs(mine - other) > 1e-4 * max(1.0, abs(other)):
        raise SystemExit(f"{name}: ours is {mine}, torchmetrics' {other}; nothing is timed")
    turns = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    ratios = sorted(a / b for a, b in turns)
    spread = f"{ratios[0]:.2f}-{ratios[-1]:.2f}"
    cells = (median(a for a, _ in turns), median(b for _, b in turns))
    print(f"{name:6}{mine:12.5f}{other:12.5f}{cells[0]:10.2f}{cells[1]:14.2f}{median(ratios):10.2f}  ({spread})")


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description="FID and PSNR beside torchmetrics' own")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if min(options.pictures, options.repeats, options.threads) < 1 or options.pictures < 200:
        parser.error("--repeats and --threads must be at least 1, --pictures at least 200")
    torch.set_num_threads(options.threads)
    extractor = CLIPExtractor()
    # In whole batches: another size of batch would have the network's kernels made anew, in memory of their own.
    gather(Pictures(500, 2), extractor, batch=50)
    before = peak_mib()
    took = seconds(lambda: gather(Pictures(10_000, 2), extractor, batch=50))
    print(f"10,000 pictures of {SIDE}x{SIDE}: {took:.1f} s, {peak_mib() - before:.1f} MiB more than 500 of them take")
    print(f"{'':6}{'ours':>12}{'theirs':>12}{'ours, s':>10}{'torchmetrics':>14}{'ratio':>10}")
    count = options.pictures
    compare("FID", lambda: our_fid(extractor, count), lambda: their_fid(extractor, count), options.repeats)
    first, second = Pictures(count, 0).read(0, count), Pictures(count, 1).read(0, count)
    compare("PSNR", lambda: our_psnr(first, second), lambda: their_psnr(first, second), options.repeats)


if __name__ == "__main__":
    main()
