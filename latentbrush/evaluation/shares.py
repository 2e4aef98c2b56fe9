"""How sure a share of right answers is."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist

import torch
from torch import Tensor

__all__ = ["clustered_interval"]

Z = NormalDist().inv_cdf(0.975)
"""Of 95% confidence, both sides: 1.96."""


def clustered_interval(right: Tensor, clusters: Sequence[Hashable]) -> tuple[float, float]:
    """The 95% confidence interval, within [0, 1], for the mean of yes-or-no answers that come in clusters.

    `right`: (n, S), 1 or 0 (or truth values): n questions, each asked S times; `clusters`: the n questions'
    clusters. It covers which questions were asked (as draws of whole clusters from more of their kind) and,
    since every answer has noise of its own, the S tries; another training of the model it does not cover.

    Answers within a cluster are alike and count for less than as many independent ones. The variance between
    the clusters says how many independent answers m would be as sure (the effective sample size, smaller where
    few clusters leave the variance itself unsure: Korn and Graubard 1998), and m goes into Wilson's interval,
    which holds near 0 and 1, too. At 0 and 1 there is no variance to read m from, and every cluster counts
    once. Dean and Pagano 2015 compare such intervals. ValueError for no answers.
    """
    if right.ndim != 2 or not right.numel() or len(right) != len(clusters):
        raise ValueError(f"answers {tuple(right.shape)} for {len(clusters)} clusters; give (n, S) answers, n clusters")
    share = float(right.double().mean())
    m = _effective_size(right.double(), clusters, share)
    centre = (share + Z**2 / (2 * m)) / (1 + Z**2 / m)
    half = Z / (1 + Z**2 / m) * math.sqrt(share * (1 - share) / m + Z**2 / (4 * m**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def _effective_size(right: Tensor, clusters: Sequence[Hashable], share: float) -> float:
    names = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    count = len(names)
    if count == 1 or share in (0.0, 1.0):
        return float(count)
    index = torch.tensor([names[cluster] for cluster in clusters])
    deviations = torch.zeros(count, dtype=torch.float64).index_add(0, index, right.mean(1) - share)
    variance = count / (count - 1) * float(deviations.square().sum()) / len(right) ** 2
    # Clusters that happen to agree are no surer than answers without any likeness.
    m = min(right.numel(), share * (1 - share) / variance) if variance else right.numel()
    return max(1.0, m * (Z / _student(count - 1)) ** 2)


def _student(n: int) -> float:
    """Student's quantile for Z with n degrees of freedom, by its series (Abramowitz and Stegun 26.7.5)."""
    terms = (
        Z,
        (Z**3 + Z) / (4 * n),
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * n**2),
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / (384 * n**3),
    )
    return sum(terms)
