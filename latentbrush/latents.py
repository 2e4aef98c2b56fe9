"""Pictures to latents and back: in tiles where they are large, in float32 where half precision overflows, and never
what is not finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from latentbrush.devices import HALVES, in_float32, not_finite, out_of_memory
from latentbrush.errors import NotFiniteError
from latentbrush.model import LatentDiffusion
from latentbrush.nn import FirstStage, Posterior, TinyAutoencoder, posterior_of, tiled_decode, tiled_encode
from latentbrush.request import TILES_BEYOND, Tiles

__all__ = ["Tiling", "decoded", "encoded"]

Coded = TypeVar("Coded", Tensor, Posterior)


class Tiling:
    """Whether one request's pictures are encoded and decoded in tiles, one picture at a time; and what was done.

    `auto` begins with those larger than `TILES_BEYOND` pixels, or where memory runs out, and stays with it: the
    pictures that follow would run into the same wall. `on` and `off` are meant, `decode` is `on` in decoding alone.
    A tiny autoencoder takes too little memory to need tiles, and never has any.
    """

    def __init__(self, tiles: Tiles = "auto") -> None:
        self._may = tiles == "auto"
        self._encode, self._decode = tiles == "on", tiles in ("on", "decode")
        self._encoded_whole = False

    @property
    def done(self) -> Tiles:
        """What a request must say for the pictures finished last to be painted so again."""
        if not self._decode:
            return "off"
        return "decode" if self._encoded_whole else "on"

    def cuts_encoding(self, pixels: int) -> bool:
        """Whether a picture of so many pixels is encoded in tiles from the first."""
        return self._encode or (self._may and pixels > TILES_BEYOND)

    def cuts_decoding(self, pixels: int) -> bool:
        """As `cuts_encoding`, of decoding."""
        return self._decode or (self._may and pixels > TILES_BEYOND)

    def encode(self, autoencoder: FirstStage, pixels: Tensor) -> Posterior:
        """As `posterior_of`."""
        if isinstance(autoencoder, TinyAutoencoder):
            return posterior_of(autoencoder, pixels)
        self._begin_if_large(pixels.shape[-2] * pixels.shape[-1])
        if not self._encode:
            whole = self._whole(lambda x: posterior_of(autoencoder, x), pixels)
            if whole is not None:
                self._encoded_whole = True
                return whole
            self._encoded_whole = False  # what was before was not good enough, or it would not be asked for again
        return tiled_encode(autoencoder, pixels)

    def decode(self, autoencoder: FirstStage, latents: Tensor) -> Tensor:
        """As the first stage's own."""
        if isinstance(autoencoder, TinyAutoencoder):
            return autoencoder.decode(latents)
        self._begin_if_large(latents.shape[-2] * latents.shape[-1] * autoencoder.config.factor**2)
        whole = None if self._decode else self._whole(autoencoder.decode, latents)
        return tiled_decode(autoencoder, latents) if whole is None else whole

    def _begin_if_large(self, pixels: int) -> None:
        if self._may and pixels > TILES_BEYOND:
            self._encode = self._decode = True

    def _whole(self, run: Callable[[Tensor], Coded], x: Tensor) -> Coded | None:
        """None where memory ran out and tiles may be taken instead; they begin only when the error, and with it what
        had been computed, is gone."""
        try:
            return run(x)
        except (MemoryError, RuntimeError) as error:
            if not (self._may and out_of_memory(error)):
                raise
        self._encode = self._decode = True
        return None


@torch.inference_mode()
def decoded(
    model: LatentDiffusion, latents: Tensor, refusal: Callable[[int], str], tiling: Tiling | None = None
) -> Tensor:
    """The pictures of latents (B, c, h, w): (B, 3, H, W), about [-1, 1], all finite, so that they may be saved.

    Those that overflow in half precision are decoded once more in float32. NotFiniteError, with the words that
    `refusal` has for it, for a picture that is not finite then, either. `tiling`: None for `auto`.
    """
    tiles, latents = tiling or Tiling(), latents.to(model.device)
    pixels = tiles.decode(model.decoder, latents.to(model.dtype))
    if model.dtype in HALVES and (spoilt := not_finite(pixels)):
        pixels = pixels.float()
        with in_float32(model.decoder):
            pixels[spoilt] = tiles.decode(model.decoder, latents[spoilt].float())
    if spoilt := not_finite(pixels):
        raise NotFiniteError(refusal(spoilt[0]))
    return pixels


@torch.inference_mode()
def encoded(model: LatentDiffusion, pixels: Tensor, tiling: Tiling | None = None) -> Posterior:
    """The latents of pictures (B, 3, H, W) in [-1, 1]; all in float32 where one overflows in half precision.

    NotFiniteError for what is not finite then, either. `tiling`: None for `auto`.
    """

    def spoilt(posterior: Posterior) -> bool:
        return bool(not_finite(torch.cat([posterior.mean, posterior.std])))

    tiling, pixels = tiling or Tiling(), pixels.to(model.device)
    posterior = tiling.encode(model.autoencoder, pixels.to(model.dtype))
    if model.dtype in HALVES and spoilt(posterior):
        with in_float32(model.autoencoder):
            posterior = tiling.encode(model.autoencoder, pixels.float())
    if spoilt(posterior):
        raise NotFiniteError(
            "the autoencoder makes of a picture what is not finite; its weights are damaged: get them anew"
        )
    return posterior
