"""What turns pictures into the features that metrics compare, and says of itself all that a figure depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.origin import sha256_of

__all__ = ["Extractor", "ExtractorIdentity", "Features", "digest_of"]


@dataclass(frozen=True)
class Features:
    """Of B pictures: `pooled` (B, d); `spatial` (B, e), what sFID compares, and `logits` (B, k) over classes, which
    IS reads, where the network has them."""

    pooled: Tensor
    spatial: Tensor | None = None
    logits: Tensor | None = None

    def logits_or_refuse(self) -> Tensor:
        if self.logits is None:
            raise UserError("IS needs classes, which this extractor does not tell; give Inception's weights")
        return self.logits


@dataclass(frozen=True)
class ExtractorIdentity:
    """What two figures must share to be compared (Parmar et al. 2022 show how much the resize alone moves FID).

    `name`: for people; `digest`: of the weights, 'sha256:...'; `side`: pixels that the network sees; `resize`: by what
    they are brought there; `precision`: of its arithmetic.
    """

    name: str
    digest: str
    side: int
    resize: str
    precision: str

    @property
    def frechet(self) -> str:
        """What its Frechet distance is called: FID is Inception's alone."""
        return "FID" if self.name.startswith("Inception") else "FD"

    def to_json(self) -> dict[str, str | int]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: object) -> ExtractorIdentity:
        """What `to_json` gave. ValueError for anything else."""
        kinds = {"name": str, "digest": str, "side": int, "resize": str, "precision": str}
        if not isinstance(content, dict) or content.keys() != kinds.keys():
            raise ValueError("it has other fields")
        if not all(type(content[key]) is kind for key, kind in kinds.items()):
            raise ValueError("a field is of another kind")
        return cls(**content)


def digest_of(files: Sequence[Path]) -> str:
    """'sha256:...' of a network's files of weights: a single one's own, of several that of theirs, in their order."""
    digests = [sha256_of(file) for file in files]
    return f"sha256:{digests[0] if len(digests) == 1 else hashlib.sha256(' '.join(digests).encode()).hexdigest()}"


class Extractor(Protocol):
    """uint8 pictures (B, 3, H, W), of any one size -> `Features`, float32 on the CPU, in eval mode, no gradients.

    The same pictures give the same features whatever the batch, up to roundings of the kernels.
    """

    @property
    def identity(self) -> ExtractorIdentity: ...

    def __call__(self, pictures: Tensor) -> Features: ...
