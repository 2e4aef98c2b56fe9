"""Pictures to latents and back: in float32 where half precision overflows, and never what is not finite."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from latentbrush.devices import HALVES, in_float32, not_finite
from latentbrush.errors import NotFiniteError
from latentbrush.model import LatentDiffusion
from latentbrush.nn import Posterior

__all__ = ["decoded", "encoded"]


@torch.inference_mode()
def decoded(model: LatentDiffusion, latents: Tensor, refusal: Callable[[int], str]) -> Tensor:
    """The pictures of latents (B, c, h, w): (B, 3, H, W), about [-1, 1], all finite, so that they may be saved.

    Those that overflow in half precision are decoded once more in float32. NotFiniteError, with the words that
    `refusal` has for it, for a picture that is not finite then, either.
    """
    latents = latents.to(model.device)
    pixels = model.decoder.decode(latents.to(model.dtype))
    if model.dtype in HALVES and (spoilt := not_finite(pixels)):
        pixels = pixels.float()
        with in_float32(model.decoder):
            pixels[spoilt] = model.decoder.decode(latents[spoilt].float())
    if spoilt := not_finite(pixels):
        raise NotFiniteError(refusal(spoilt[0]))
    return pixels


@torch.inference_mode()
def encoded(model: LatentDiffusion, pixels: Tensor) -> Posterior:
    """The latents of pictures (B, 3, H, W) in [-1, 1]; all in float32 where one overflows in half precision.

    NotFiniteError for what is not finite then, either.
    """

    def spoilt(posterior: Posterior) -> bool:
        return bool(not_finite(torch.cat([posterior.mean, posterior.logvar])))

    pixels = pixels.to(model.device)
    posterior = model.autoencoder.encode(pixels.to(model.dtype))
    if model.dtype in HALVES and spoilt(posterior):
        with in_float32(model.autoencoder):
            posterior = model.autoencoder.encode(pixels.float())
    if spoilt(posterior):
        raise NotFiniteError(
            "the autoencoder makes of a picture what is not finite; its weights are damaged: get them anew"
        )
    return posterior
