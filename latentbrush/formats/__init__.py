"""Files <-> models: diffusers folders, which are the native format. Loading executes no code from a file."""

from latentbrush.formats.folder import load_autoencoder, load_model, save_autoencoder, save_model
from latentbrush.formats.shipped import resolve_model, shipped_models

__all__ = [
    "load_autoencoder",
    "load_model",
    "resolve_model",
    "save_autoencoder",
    "save_model",
    "shipped_models",
]
