"""What a first stage gives back of pictures, and how far that is from them: R-FID, PSNR, PSIM, SSIM, codes in use."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latentbrush.data.pixels import to_bytes, to_signed
from latentbrush.devices import not_finite
from latentbrush.errors import UserError
from latentbrush.evaluation import CodebookUsage, codebook_usage, frechet_distance, moments, psnr, ssim
from latentbrush.evaluation.extractor import Extractor
from latentbrush.evaluation.perceptual import PerceptualDistance, picture_distances
from latentbrush.nn import FirstStage, VQAutoencoder, posterior_of

__all__ = ["Reconstruction", "ReconstructionFigures", "reconstruct"]

BATCH = 64


@dataclass(frozen=True)
class ReconstructionFigures:
    """Of `count` pictures, means over them but for `rfid`, the Frechet distance of their features to the originals'.

    `psnr` in decibels, `psim` a perceptual distance, 0 for the same; `usage` of the codebook, with VQ.
    """

    count: int
    rfid: float
    psnr: float
    psim: float
    ssim: float
    usage: CodebookUsage | None

    def to_json(self) -> dict[str, float | int]:
        figures: dict[str, float | int] = {
            "count": self.count,
            "rfid": self.rfid,
            "psnr": self.psnr,
            "psim": self.psim,
            "ssim": self.ssim,
        }
        if self.usage is None:
            return figures
        return figures | {"perplexity": self.usage.perplexity, "codes_used": self.usage.share}


@dataclass(frozen=True)
class Reconstruction:
    """Originals and what came back, both uint8 (N, 3, H, W); `usage` of the codebook, with VQ."""

    originals: Tensor
    rebuilt: Tensor
    usage: CodebookUsage | None

    def figures(self, extractor: Extractor, distance: PerceptualDistance) -> ReconstructionFigures:
        """UserError for fewer than two pictures, and as `ssim`, `extractor` and `distance`."""
        pairs = list(zip(torch.split(self.rebuilt, BATCH), torch.split(self.originals, BATCH), strict=True))
        rebuilt, originals = (moments(extractor(pair[i]).pooled for pair in pairs) for i in range(2))
        return ReconstructionFigures(
            count=len(self.originals),
            rfid=frechet_distance(rebuilt, originals),
            psnr=float(_decibels(pairs).mean()),
            psim=float(torch.cat([picture_distances(distance, *pair) for pair in pairs]).mean()),
            ssim=float(torch.cat([ssim(*pair) for pair in pairs]).mean()),
            usage=self.usage,
        )


def _decibels(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """A picture that comes back as it was counts as if one number of it were off by one: a mean must be finite."""
    best = 10.0 * math.log10(255.0**2 * pairs[0][0][0].numel())
    return torch.cat([psnr(*pair) for pair in pairs]).clamp(max=best)


@torch.inference_mode()
def reconstruct(stage: FirstStage, originals: Tensor) -> Reconstruction:
    """Through the first stage and back, without any draw, rounded to bytes as pictures are saved.

    `originals`: uint8 (N, 3, H, W). ValueError as `encode`; UserError where what comes back is not finite.
    """
    device = next((weight.device for weight in stage.parameters()), originals.device)
    rebuilt, indices = [], []
    for part in torch.split(originals, BATCH):
        latents = posterior_of(stage, to_signed(part).to(device)).mode()
        if isinstance(stage, VQAutoencoder):
            quantised = stage.quantise(latents)
            indices.append(quantised.indices.cpu())
            pictures = stage.decode_entries(quantised.latents)
        else:
            pictures = stage.decode(latents)
        if bad := len(not_finite(pictures)):
            raise UserError(f"{bad} of {len(part)} pictures come back not finite; train the first stage anew")
        rebuilt.append(to_bytes(pictures).cpu())
    usage = codebook_usage(torch.cat(indices), stage.config.codebook_size) if isinstance(stage, VQAutoencoder) else None
    return Reconstruction(originals, torch.cat(rebuilt), usage)
