"""latentbrush: train, sample and ship latent diffusion models.

>>> import latentbrush
>>> model = latentbrush.load("emoji")
>>> request = latentbrush.ImageRequest(prompt="a red heart")
>>> latentbrush.generate(model, request)[0].image.size
(32, 32)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latentbrush.errors import UserError
from latentbrush.request import Canvas, GuidanceRequest, ImageRequest, ModelRequest, Sampling, Start

if TYPE_CHECKING:
    from latentbrush.formats import load_model as load
    from latentbrush.formats import load_photo
    from latentbrush.pipeline import GeneratedImage, generate

__all__ = [
    "Canvas",
    "GeneratedImage",
    "GuidanceRequest",
    "ImageRequest",
    "ModelRequest",
    "Sampling",
    "Start",
    "UserError",
    "generate",
    "load",
    "load_photo",
]


def __getattr__(name: str) -> Any:
    """What needs torch is imported when first asked for, so that the command line's --help stays quick."""
    if name == "load":
        from latentbrush.formats import load_model

        return load_model
    if name == "load_photo":
        from latentbrush.formats import load_photo

        return load_photo
    if name in ("generate", "GeneratedImage"):
        from latentbrush import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
