"""The inception score: how sure a classifier is of each picture, and how varied it finds them together."""

from __future__ import annotations

import torch
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.evaluation.statistics import as_finite

__all__ = ["inception_score"]


def inception_score(logits: Tensor, splits: int = 10, seed: int | None = None) -> tuple[float, float]:
    """exp of the mean of KL(p(y|x) || p(y)), mean and standard deviation over `splits` equal parts.

    Salimans et al. 2016, section 4. `logits`: (n, classes), before the softmax. `seed`: shuffles them first, for
    pictures that lie in the order of their classes; None leaves them. From 1, where all look alike, to the number of
    classes. UserError for fewer pictures than parts, and
    for what is not finite.
    """
    logits = as_finite(logits)
    if splits < 1 or len(logits) < splits:
        raise UserError(f"{len(logits)} pictures cannot make {splits} parts; choose from 1 to {len(logits)}")
    if seed is not None:
        logits = logits[torch.randperm(len(logits), generator=torch.Generator().manual_seed(seed))]
    log_p = logits.log_softmax(1)
    scores = []
    for part in torch.tensor_split(log_p, splits):
        marginal = part.exp().mean(0)
        divergence = (part.exp() * part).sum(1).mean() - torch.special.xlogy(marginal, marginal).sum()
        scores.append(float(divergence.exp()))
    values = torch.tensor(scores, dtype=torch.float64)
    return float(values.mean()), float(values.std(correction=0))
