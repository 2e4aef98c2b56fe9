"""Maximum mean discrepancies between two sets of features: KID and CMMD."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.evaluation.statistics import as_finite

__all__ = ["KID_SUBSET", "clip_mmd", "clip_mmd_deviation", "kernel_deviation", "kernel_distance", "kid"]

KID_SUBSET, KID_SUBSETS = 1000, 100
"""As in most published figures."""
CMMD_SIGMA, CMMD_SCALE = 10.0, 1000.0
Kernel = Callable[[Tensor, Tensor], Tensor]
AT_ONCE = 4096
"""Rows of a kernel matrix held at once: 4096 x 10,000 float64 are 330 MB."""


def kernel_distance(first: Tensor, second: Tensor) -> float:
    """The unbiased squared discrepancy under the cubic kernel (x.y / d + 1)^3: (n, d) and (m, d) features.

    Binkowski et al. 2018, equations 3 and 4. It is 0 in expectation for sets of one kind, whatever their sizes, and
    may be below. UserError for fewer than two of either, or unlike widths.
    """
    first, second = _checked(first, second)
    n, m, d = len(first), len(second), first.shape[1]

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / d + 1) ** 3

    def own(x: Tensor) -> float:
        diagonal = ((x.square().sum(1) / d + 1) ** 3).sum()
        return float(_total(kernel, x, x) - diagonal) / (len(x) * (len(x) - 1))

    return own(first) + own(second) - 2 * float(_total(kernel, first, second)) / (n * m)


def kid(
    first: Tensor, second: Tensor, *, subsets: int = KID_SUBSETS, size: int = KID_SUBSET, seed: int = 0
) -> tuple[float, float]:
    """KID: the mean of `kernel_distance` over random subsets, each drawn without replacement, and its deviation.

    The deviation is that of the subsets' values, as papers print it. It is no standard error: the subsets are of one
    sample and overlap, so that more of them do not make the mean surer. UserError where either set has fewer than
    `size` features.
    """
    if subsets < 1 or size < 2:
        raise UserError(f"{subsets} subsets of {size} are asked for; choose at least 1 of at least 2")
    least = min(len(first), len(second))
    if least < size:
        raise UserError(
            f"KID takes subsets of {size} pictures, but there are {len(first)} and {len(second)}; choose a subset size "
            f"of at most {least}"
        )
    generator = torch.Generator().manual_seed(seed)

    def drawn(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:size]]

    values = torch.tensor([kernel_distance(drawn(first), drawn(second)) for _ in range(subsets)], dtype=torch.float64)
    return float(values.mean()), float(values.std(correction=0))


def clip_mmd(first: Tensor, second: Tensor, sigma: float = CMMD_SIGMA, scale: float = CMMD_SCALE) -> float:
    """CMMD: the squared discrepancy of unit embeddings under a Gaussian kernel, times `scale`.

    Jayasumana et al. 2024, equation 3 with k = exp(-|x - y|^2 / (2 sigma^2)); as in their code the sums keep the
    diagonal, so that equal sets are at 0. Embeddings (n, d) and (m, d) are brought to length 1 first. UserError for
    fewer than two of either, or unlike widths.
    """
    first, second = (x / x.norm(dim=1, keepdim=True) for x in _checked(first, second))

    kernel = _gaussian(sigma)

    def mean(x: Tensor, y: Tensor) -> float:
        return float(_total(kernel, x, y)) / (len(x) * len(y))

    return scale * (mean(first, first) + mean(second, second) - 2 * mean(first, second))


def kernel_deviation(first: Tensor, second: Tensor) -> float:
    """How far `kernel_distance` strays with which n pictures `first` holds; the second set stays as it is.

    By Hoeffding's parts of a statistic of pairs (1948, equation 5.13): the mean of each picture over the others, and
    what is left of the pairs, which alone counts where both sets are of one kind. UserError as `kernel_distance`.
    """
    first, second = _checked(first, second)
    d = first.shape[1]
    return _deviation(lambda x, y: (x @ y.T / d + 1) ** 3, first, second)


def clip_mmd_deviation(first: Tensor, second: Tensor, sigma: float = CMMD_SIGMA, scale: float = CMMD_SCALE) -> float:
    """The same of `clip_mmd`."""
    first, second = (x / x.norm(dim=1, keepdim=True) for x in _checked(first, second))
    return scale * _deviation(_gaussian(sigma), first, second)


def _deviation(kernel: Kernel, first: Tensor, second: Tensor) -> float:
    n = len(first)
    own = torch.cat([kernel(strip, first).sum(1) for strip in torch.split(first, AT_ONCE)])
    own = (own - _diagonal(kernel, first)) / (n - 1)
    across = torch.cat([kernel(strip, second).mean(1) for strip in torch.split(first, AT_ONCE)])
    alone = (own - across).var(correction=0)
    means, mean = own, own.mean()
    pairs = torch.zeros((), dtype=torch.float64)
    for start in range(0, n, AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        left = kernel(first[rows], first) - means[rows, None] - means + mean
        left[torch.arange(len(left)), torch.arange(start, start + len(left))] = 0
        pairs += left.square().sum()
    pair = 2 * pairs / (n * (n - 1)) ** 2
    # The means hold the pairs' noise, too: twice what the pairs themselves add.
    return float((4 * alone / n - 2 * pair).clamp(min=0).add(pair).sqrt())


def _diagonal(kernel: Kernel, x: Tensor) -> Tensor:
    return torch.cat([kernel(strip, strip).diagonal() for strip in torch.split(x, 64)])


def _gaussian(sigma: float) -> Kernel:
    def kernel(x: Tensor, y: Tensor) -> Tensor:
        squared = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * (x @ y.T)
        return torch.exp(-squared.clamp(min=0) / (2 * sigma**2))

    return kernel


def _total(kernel: Kernel, x: Tensor, y: Tensor) -> Tensor:
    """The sum over all pairs, in strips, so that no whole matrix is held."""
    return torch.stack([kernel(strip, y).sum() for strip in torch.split(x, AT_ONCE)]).sum()


def _checked(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    if first.ndim != 2 or second.ndim != 2:
        raise ValueError(f"features {tuple(first.shape)} and {tuple(second.shape)} must be (n, d)")
    if first.shape[1] != second.shape[1]:
        raise UserError(
            f"features of {first.shape[1]} and of {second.shape[1]} numbers have no distance; take both by one "
            "extractor"
        )
    if min(len(first), len(second)) < 2:
        raise UserError(f"there are {len(first)} and {len(second)} pictures; give at least 2 of each")
    return as_finite(first), as_finite(second)
