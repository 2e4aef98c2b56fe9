"""latentbrush: train, sample and ship latent diffusion models.

>>> import latentbrush
>>> model = latentbrush.load("emoji")
>>> request = latentbrush.ImageRequest(prompt="a red heart")
>>> latentbrush.generate(model, request)[0].image.size
(32, 32)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentbrush.errors import UserError
    from latentbrush.formats import load_model as load
    from latentbrush.formats import load_photo
    from latentbrush.pipeline import GeneratedImage, generate
    from latentbrush.request import Canvas, GuidanceRequest, ImageRequest, ModelRequest, Sampling, Start

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


_REQUEST = ("Canvas", "GuidanceRequest", "ImageRequest", "ModelRequest", "Sampling", "Start")
_PLACES = {
    **{name: ("request", name) for name in _REQUEST},
    "GeneratedImage": ("pipeline", "GeneratedImage"),
    "UserError": ("errors", "UserError"),
    "generate": ("pipeline", "generate"),
    "load": ("formats", "load_model"),
    "load_photo": ("formats", "load_photo"),
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    """Imported when first asked for: the command line's --help needs no torch, and its Ctrl-C must be set up first."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room, own_name = _PLACES[name]
    return getattr(import_module(f"latentbrush.{room}"), own_name)
