"""Files <-> models: diffusers folders, which are the native format. Loading executes no code from a file."""

from latentbrush.formats.clip import SIGNED, CLIPParts, PixelScale, load_clip, save_clip
from latentbrush.formats.folder import load_autoencoder, load_model, save_autoencoder, save_model
from latentbrush.formats.pictures import METADATA_KEY, check_writable, output_paths, read_request, save_picture
from latentbrush.formats.shipped import resolve_model, shipped_models

__all__ = [
    "METADATA_KEY",
    "SIGNED",
    "CLIPParts",
    "PixelScale",
    "check_writable",
    "load_autoencoder",
    "load_clip",
    "load_model",
    "output_paths",
    "read_request",
    "resolve_model",
    "save_autoencoder",
    "save_clip",
    "save_model",
    "save_picture",
    "shipped_models",
]
