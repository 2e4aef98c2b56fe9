"""How well a first stage gives back what it was given: pictures through the autoencoder, beside themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from latentbrush.data.pixels import to_bytes, to_signed
from latentbrush.errors import UserError
from latentbrush.evaluation.extractor import Extractor
from latentbrush.evaluation.fidelity import MS_LEAST, ms_ssim, psnr, ssim
from latentbrush.evaluation.frechet import frechet_distance
from latentbrush.evaluation.gather import Gathered
from latentbrush.evaluation.inception_score import inception_score
from latentbrush.evaluation.measurement import Figure
from latentbrush.evaluation.metrics import mean_figure
from latentbrush.evaluation.perceptual import PerceptualDistance, picture_distances
from latentbrush.evaluation.sets import PictureSet
from latentbrush.latents import decoded, encoded
from latentbrush.model import LatentDiffusion

__all__ = ["Rebuilder", "Rebuilt", "RebuiltPictures", "check_sides", "rebuild"]

REFUSAL = "the autoencoder's picture of an original is not finite; its weights are damaged: get them anew"


def check_sides(model: LatentDiffusion, pictures: Tensor) -> None:
    """UserError for pictures (B, 3, H, W) whose sides the first stage's factor does not divide."""
    (h, w), f = pictures.shape[-2:], model.factor
    if h % f or w % f:
        raise UserError(
            f"pictures of {w}x{h} do not divide into the autoencoder's cells; give --size, a multiple of {f}"
        )


class Rebuilder(ABC):
    """A set of pictures as a first stage gives them back, from the means of their latents."""

    def __init__(self, originals: PictureSet) -> None:
        self.originals = originals

    @property
    def name(self) -> str:
        return f"{self.originals.name}, rebuilt"

    def __len__(self) -> int:
        return len(self.originals)

    def read(self, first: int, end: int) -> Tensor:
        return self.of(self.originals.read(first, end))

    @abstractmethod
    def of(self, pictures: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) -> the same, as they come back."""


class RebuiltPictures(Rebuilder):
    """By `model`'s own first stage, or its fast decoder: in tiles and in float32 where they are needed."""

    def __init__(self, model: LatentDiffusion, originals: PictureSet) -> None:
        super().__init__(originals)
        self.model = model

    def of(self, pictures: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) through the autoencoder and back. UserError for sides that its factor does not divide."""
        check_sides(self.model, pictures)
        latents = encoded(self.model, to_signed(pictures)).mode()
        return to_bytes(decoded(self.model, latents, lambda _: REFUSAL)).cpu()


class Rebuilt:
    """What comparing pictures with their originals found. `originals`, `rebuilt`: what is known of both sets;
    `each`: PSNR, SSIM, ... of every picture, (n,) float64."""

    def __init__(self, originals: Gathered, rebuilt: Gathered, each: Mapping[str, Tensor]) -> None:
        self.originals, self.rebuilt, self.each = originals, rebuilt, each

    def figures(self, seed: int = 0) -> dict[str, Figure]:
        """R-FID, R-IS where there are classes, and the means with their intervals; PSNR of equal pictures is left
        out of its mean, being infinite."""
        distance = frechet_distance(self.rebuilt.moments, self.originals.moments)
        found = {f"R-{self.rebuilt.identity.frechet}": Figure(value=distance, lower_is_better=True)}
        if all(part.logits is not None for part in self.rebuilt.kept.values()):
            value, deviation = inception_score(self.rebuilt.logits, seed=seed)
            found["R-IS"] = Figure(value=value, lower_is_better=False, deviation=deviation)
        for name, values in self.each.items():
            finite = values[values.isfinite()]
            if len(finite) > 1:
                found[name] = mean_figure(finite, seed, lower=name == "PSIM")
        return found


def rebuild(
    rebuilt: Rebuilder,
    extractor: Extractor,
    perceptual: PerceptualDistance,
    *,
    batch: int = 64,
    on_part: Callable[[int, int], None] | None = None,
) -> Rebuilt:
    """Read every original once, and compare it with what the first stage makes of it."""
    seen, made = (Gathered(one.name, extractor.identity) for one in (rebuilt.originals, rebuilt))
    each: dict[str, list[Tensor]] = {}
    count = len(rebuilt.originals)
    for place, first in enumerate(range(0, count, batch)):
        originals = rebuilt.originals.read(first, min(first + batch, count))
        pictures = rebuilt.of(originals)
        seen.add(place, originals, extractor(originals), keep=False)
        made.add(place, pictures, extractor(pictures), keep=True)
        for name, values in _compared(pictures, originals, perceptual).items():
            each.setdefault(name, []).append(values)
        if on_part is not None:
            on_part(first + len(originals), count)
    return Rebuilt(seen, made, {name: torch.cat(values) for name, values in each.items()})


def _compared(pictures: Tensor, originals: Tensor, perceptual: PerceptualDistance) -> dict[str, Tensor]:
    found = {
        "PSNR": psnr(pictures, originals),
        "PSIM": picture_distances(perceptual, pictures, originals),
        "SSIM": ssim(pictures, originals),
    }
    if min(originals.shape[-2:]) >= MS_LEAST:
        found["MS-SSIM"] = ms_ssim(pictures, originals)
    return found
