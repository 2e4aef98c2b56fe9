"""Random draws of training, keyed by what they are for and never by what was drawn before.

Every draw is a function of (seed, step, purpose): a run resumes at step N in O(1) with the draws it would
have made, and a batch is drawn whole wherever it is computed, so that sharding it changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["fingerprint", "numpy_draws", "torch_draws", "torch_seed"]


def _sequence(seed: int, step: int, purpose: str) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, step, zlib.crc32(purpose.encode())])


def numpy_draws(seed: int, step: int, purpose: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(_sequence(seed, step, purpose)))


def torch_seed(seed: int, step: int, purpose: str) -> int:
    """A seed below 2^63 for torch's generators."""
    return int(_sequence(seed, step, purpose).generate_state(1, np.uint64)[0] >> np.uint64(1))


def torch_draws(seed: int, step: int, purpose: str) -> torch.Generator:
    """A CPU generator, so that the draws are the same on every device."""
    return torch.Generator("cpu").manual_seed(torch_seed(seed, step, purpose))


def fingerprint(*arrays: NDArray[Any], facts: Any = None) -> str:
    """The SHA-256 of what a run draws from: with other data, the same draws would train something else.

    `facts`: whatever JSON can hold, such as captions.
    """
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
