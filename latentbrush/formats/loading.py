"""What a request's `model` and `stages` name, all of it, in the one order in which its parts fit together."""

from __future__ import annotations

import torch

from latentbrush.formats.opening import load_model, with_refiner
from latentbrush.formats.safety import with_safety_check
from latentbrush.formats.tiny_autoencoder import with_fast_decoder
from latentbrush.model import LatentDiffusion
from latentbrush.request import ImageRequest

__all__ = ["load_for"]


def load_for(
    request: ImageRequest,
    *,
    device: torch.device | str = "auto",
    dtype: torch.dtype | str = "auto",
    low_memory: bool = False,
    sampler: str | tuple[str | None, str | None] | None = None,
) -> LatentDiffusion:
    """The model that a request names, with its autoencoder, fast decoder, safety checker and refiner, ready to paint.

    `device`, `dtype` and `low_memory` as for `load_model`; they hold for all parts. `sampler`: by which the model is
    read instead of its own scheduler, and the refiner too, unless a pair says (the model's, the refiner's).
    UserError for whatever is missing, broken, unknown or does not fit.
    """
    own, refiners = sampler if isinstance(sampler, tuple) else (sampler, sampler)
    named = request.model
    model = load_model(
        named.name,
        sampler=own,
        prediction=named.prediction,
        weights=named.weights,
        device=device,
        dtype=dtype,
        low_memory=low_memory,
        vae=named.vae,
    )
    # Each is measured by what came before: a decoder by the autoencoder, a refiner by all of the model.
    model = with_fast_decoder(model, named.fast_decoder)
    if named.safety_check:
        model = with_safety_check(model, named.name)
    return with_refiner(model, request.stages, sampler=refiners)
