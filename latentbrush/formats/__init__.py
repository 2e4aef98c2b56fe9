"""Files <-> models: diffusers folders, which are the native format. Loading executes no code from a file."""

from latentbrush.formats.clip import SIGNED, CLIPParts, PixelScale, load_clip, save_clip
from latentbrush.formats.folder import load_autoencoder, load_model, save_autoencoder, save_model
from latentbrush.formats.photos import Photo, as_rgb, cover, load_photo
from latentbrush.formats.pictures import METADATA_KEY, check_writable, output_paths, read_request, save_picture
from latentbrush.formats.shipped import resolve_model, shipped_models
from latentbrush.formats.weights import TooLargeError

__all__ = [
    "METADATA_KEY",
    "SIGNED",
    "CLIPParts",
    "Photo",
    "PixelScale",
    "TooLargeError",
    "as_rgb",
    "check_writable",
    "cover",
    "load_autoencoder",
    "load_clip",
    "load_model",
    "load_photo",
    "output_paths",
    "read_request",
    "resolve_model",
    "save_autoencoder",
    "save_clip",
    "save_model",
    "save_picture",
    "shipped_models",
]
