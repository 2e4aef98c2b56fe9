"""Statistics of features as .npz: ADM's and clean-fid's files are read, and what is written here they read.

mu (d,)   sigma (d, d)       of FID's features: ADM, clean-fid, pytorch-fid, TTUR
mu_s (e,) sigma_s (e, e)     of sFID's: ADM
feats (n, d)                 all features, for KID: clean-fid
arr_0 (n, H, W, 3)           the pictures themselves, bytes: ADM
extractor, count, distinct   ours: what took the features, as JSON; of how many pictures; how many of them differ
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentbrush.data.pictures import MAX_PIXELS
from latentbrush.devices import memory_for
from latentbrush.errors import UserError, short
from latentbrush.evaluation.extractor import ExtractorIdentity
from latentbrush.evaluation.npz import Npz, NpzArray
from latentbrush.evaluation.statistics import Moments
from latentbrush.files import whole_file

__all__ = [
    "FeatureStatistics",
    "holds_pictures",
    "pictures_held",
    "pictures_in",
    "read_statistics",
    "write_statistics",
]

PICTURES = "arr_0"
MOST_PICTURES = 10**12
WIDEST = 2**15
"""Numbers of a feature; Inception's have 2048, and the covariance grows with the square."""
LONGEST_TEXT = 2**14
ASYMMETRY = 1e-4
"""Of the largest number of a covariance: float32 roundings of what others computed in half their digits."""


@dataclass(frozen=True)
class FeatureStatistics:
    """Of one set of pictures. Each part is None where the file has it not.

    `pooled`, `spatial`: the moments that FID and sFID compare; their `count` is 0 where `count` is None. `features`:
    (n, d) float32, which KID compares. `identity`: what took them, and `count`: of how many pictures, of which
    `distinct` differ; files of others say none of it.
    """

    pooled: Moments | None = None
    spatial: Moments | None = None
    features: Tensor | None = None
    identity: ExtractorIdentity | None = None
    count: int | None = None
    distinct: int | None = None


def read_statistics(path: str | Path) -> FeatureStatistics:
    """Read ADM's, clean-fid's or our file; nothing is unpickled, and nothing larger than it states is unpacked.

    UserError for whatever is missing, broken, mis-shaped, not finite or no statistics.
    """
    with Npz(Path(path)) as file:
        count = _count(file)
        found = FeatureStatistics(
            pooled=_moments(file, "mu", "sigma", count or 0),
            spatial=_moments(file, "mu_s", "sigma_s", count or 0),
            features=_features(file),
            identity=_identity(file),
            count=count,
            distinct=_distinct(file),
        )
        held = None if found.features is None else len(found.features)
        if count is not None and held not in (None, count):
            raise UserError(f"{path} says that it is of {count} pictures, but holds features of {held}; make it again")
        if found.pooled is None and found.spatial is None and found.features is None:
            hint = "it holds pictures; give them as such" if PICTURES in file.names else "give a file of statistics"
            listed = ", ".join(sorted(file.names)[:5]) or "nothing"
            raise UserError(f"{path} has neither mu and sigma nor feats (but {short(listed)}); {hint}")
    return found


def write_statistics(path: str | Path, statistics: FeatureStatistics) -> None:
    """Write what there is of `statistics`, whole or not at all, in place of a file that is there.

    ADM's evaluator reads the file where it has `pooled` and `spatial`, clean-fid where it has `pooled` or, for KID,
    `features`. UserError where the disk refuses; ValueError for empty statistics.
    """
    arrays = dict(_arrays(statistics))
    if not arrays.keys() - {"extractor", "count", "distinct"}:
        raise ValueError("there are no statistics to write")
    with whole_file(Path(path)) as new, new.open("wb") as file:
        np.savez(file, **arrays)


def pictures_in(path: str | Path, batch: int = 64) -> Iterator[Tensor]:
    """ADM's file of painted pictures -> uint8 (b, 3, H, W), at most `batch` at a time, of which alone it takes memory.

    UserError for a file without such pictures, before the first.
    """
    with Npz(Path(path)) as file:
        for rows in _pictures(file, path).rows(batch):
            yield torch.from_numpy(rows).permute(0, 3, 1, 2).contiguous()


def pictures_held(path: str | Path) -> tuple[int, int, int]:
    """How many pictures ADM's file holds, their height and width. UserError as `pictures_in`."""
    with Npz(Path(path)) as file:
        count, height, width, _ = _pictures(file, path).shape
        return count, height, width


def holds_pictures(path: str | Path) -> bool:
    """Pictures, and not statistics alone? UserError for a file that is no .npz."""
    with Npz(Path(path)) as file:
        return PICTURES in file.names


def _pictures(file: Npz, path: str | Path) -> NpzArray:
    if PICTURES not in file.names:
        raise UserError(f"{path} has no {PICTURES}, the pictures of ADM's files; give another file")
    found = file.open(PICTURES)
    if found.dtype != np.uint8 or len(found.shape) != 4 or found.shape[3] != 3 or 0 in found.shape:
        raise UserError(
            f"{path}: {PICTURES} is {_described(found)}, needed are pictures uint8 (n, H, W, 3); give another file"
        )
    if found.shape[1] * found.shape[2] > MAX_PIXELS:
        raise UserError(
            f"{path}: pictures of {found.shape[1]}x{found.shape[2]} have too many pixels, at most "
            f"{MAX_PIXELS // 10**6} million are read; make them smaller"
        )
    return found


def _arrays(statistics: FeatureStatistics) -> Iterable[tuple[str, Any]]:
    for of, mean, covariance in ((statistics.pooled, "mu", "sigma"), (statistics.spatial, "mu_s", "sigma_s")):
        if of is not None:
            yield mean, of.mean.double().cpu().numpy()
            yield covariance, of.covariance.double().cpu().numpy()
    if statistics.features is not None:
        yield "feats", statistics.features.float().cpu().numpy()
    if statistics.identity is not None:
        yield "extractor", np.array(json.dumps(statistics.identity.to_json()))
    if statistics.count is not None:
        yield "count", np.array(statistics.count, dtype=np.int64)
    if statistics.distinct is not None:
        yield "distinct", np.array(statistics.distinct, dtype=np.int64)


def _moments(file: Npz, mean: str, covariance: str, count: int) -> Moments | None:
    if mean not in file.names and covariance not in file.names:
        return None
    for name, other in ((mean, covariance), (covariance, mean)):
        if name not in file.names:
            raise UserError(f"{file.path} has {other} and not {name}; copy or make it again")
    mu, sigma = (_numbers(file, name) for name in (mean, covariance))
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise UserError(
            f"{file.path}: {mean} {tuple(mu.shape)} and {covariance} {tuple(sigma.shape)} are no mean (d,) and "
            "covariance (d, d); copy or make it again"
        )
    largest = float(sigma.abs().max())
    if float((sigma - sigma.T).abs().max()) > ASYMMETRY * largest or float(sigma.diagonal().min()) < 0:
        raise UserError(
            f"{file.path}: {covariance} is no covariance (symmetric, no variance below 0); copy or make it again"
        )
    if float(torch.linalg.eigvalsh(sigma).min()) < -ASYMMETRY * largest:
        raise UserError(
            f"{file.path}: {covariance} is no covariance (a variance in some direction is below 0); make it again"
        )
    return Moments(mu, sigma, count)


def _features(file: Npz) -> Tensor | None:
    if "feats" not in file.names:
        return None
    found = _numbers(file, "feats", torch.float32)
    if found.ndim != 2:
        raise UserError(f"{file.path}: feats {tuple(found.shape)} are no features (n, d); copy or make it again")
    return found


def _numbers(file: Npz, name: str, dtype: torch.dtype = torch.float64) -> Tensor:
    found = file.open(name)
    if found.dtype.kind != "f" or found.dtype.itemsize > 8:
        raise UserError(f"{file.path}: {name} is {_described(found)}, needed are floating-point numbers; make it again")
    if 0 in found.shape or (found.shape and found.shape[-1] > WIDEST):
        raise UserError(
            f"{file.path}: {name} is {_described(found)}, but features of 1 to {WIDEST} numbers are read; "
            "give another file"
        )
    memory_for(f"the numbers {name} of {file.path}", 2 * found.size * 8, "give a smaller file")
    values = torch.from_numpy(found.whole()).to(dtype)
    if not values.isfinite().all():
        raise UserError(f"{file.path}: {name} holds numbers that are not finite; copy or make it again")
    return values


def _count(file: Npz) -> int | None:
    if "count" not in file.names:
        return None
    found = file.open("count")
    count = int(found.whole()) if found.dtype.kind in "iu" and found.shape == () else -1
    if not 2 <= count <= MOST_PICTURES:
        told = f"count is {_described(found)}, needed is a whole number from 2 to {MOST_PICTURES}"
        raise UserError(f"{file.path}: {told}; make it again")
    return count


def _distinct(file: Npz) -> int | None:
    if "distinct" not in file.names:
        return None
    found = file.open("distinct")
    number = int(found.whole()) if found.dtype.kind in "iu" and found.shape == () else 0
    if not 1 <= number <= MOST_PICTURES:
        raise UserError(f"{file.path}: distinct is {_described(found)}, needed is a whole number from 1; make it again")
    return number


def _identity(file: Npz) -> ExtractorIdentity | None:
    if "extractor" not in file.names:
        return None
    found = file.open("extractor")
    if found.dtype.kind != "U" or found.shape != () or found.dtype.itemsize > 4 * LONGEST_TEXT:
        raise UserError(f"{file.path}: extractor is {_described(found)}, needed is one text; make it again")
    try:
        return ExtractorIdentity.from_json(json.loads(str(found.whole())))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file.path}: extractor describes no extractor ({error}); make it again") from None


def _described(found: NpzArray) -> str:
    return f"{found.dtype} {found.shape}"
