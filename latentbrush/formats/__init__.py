"""Files <-> models: diffusers folders, the native format, and single files. Loading executes no code from a file."""

from latentbrush.formats.alone import with_autoencoder
from latentbrush.formats.clip import SIGNED, CLIPParts, PixelScale, load_clip, read_pixels, save_clip
from latentbrush.formats.comfyui import COMFYUI_KEY, parse_comfyui
from latentbrush.formats.convert import Conversion, convert
from latentbrush.formats.folder import load_autoencoder
from latentbrush.formats.foreign import foreign_request, foreign_sampler
from latentbrush.formats.inception import load_inception
from latentbrush.formats.loading import load_for
from latentbrush.formats.lpips import load_lpips
from latentbrush.formats.opening import load_model, load_tokenizer, outline_model, single_file, with_refiner
from latentbrush.formats.parameters import PARAMETERS_KEY, Parameters, parse_parameters, write_parameters
from latentbrush.formats.photos import Photo, cover, load_photo
from latentbrush.formats.pictures import (
    METADATA_KEY,
    check_writable,
    output_path,
    output_paths,
    read_record,
    read_texts,
    save_picture,
    texts_of,
)
from latentbrush.formats.record import PictureRecord, differences, files_of, machine_of, parse_record, record_of
from latentbrush.formats.replace import replaced_folder
from latentbrush.formats.safety import with_safety_check
from latentbrush.formats.saving import save_autoencoder, save_model
from latentbrush.formats.shipped import resolve_clip, resolve_model, shipped_clips, shipped_models
from latentbrush.formats.summary import AloneSummary, ModelSummary, PartSummary, summarise, summarise_alone
from latentbrush.formats.tiny_autoencoder import load_tiny_autoencoder, save_tiny_autoencoder, with_fast_decoder
from latentbrush.formats.vq import load_vq, save_vq
from latentbrush.formats.weights import TooLargeError

__all__ = [
    "COMFYUI_KEY",
    "METADATA_KEY",
    "PARAMETERS_KEY",
    "SIGNED",
    "AloneSummary",
    "CLIPParts",
    "Conversion",
    "ModelSummary",
    "Parameters",
    "PartSummary",
    "Photo",
    "PictureRecord",
    "PixelScale",
    "TooLargeError",
    "check_writable",
    "convert",
    "cover",
    "differences",
    "files_of",
    "foreign_request",
    "foreign_sampler",
    "load_autoencoder",
    "load_clip",
    "load_for",
    "load_inception",
    "load_lpips",
    "load_model",
    "load_photo",
    "load_tiny_autoencoder",
    "load_tokenizer",
    "load_vq",
    "machine_of",
    "outline_model",
    "output_path",
    "output_paths",
    "parse_comfyui",
    "parse_parameters",
    "parse_record",
    "read_pixels",
    "read_record",
    "read_texts",
    "record_of",
    "replaced_folder",
    "resolve_clip",
    "resolve_model",
    "save_autoencoder",
    "save_clip",
    "save_model",
    "save_picture",
    "save_tiny_autoencoder",
    "save_vq",
    "shipped_clips",
    "shipped_models",
    "single_file",
    "summarise",
    "summarise_alone",
    "texts_of",
    "with_autoencoder",
    "with_fast_decoder",
    "with_refiner",
    "with_safety_check",
    "write_parameters",
]
