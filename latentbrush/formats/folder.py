"""A model's folder, the native format: diffusers' own, with latentbrush.json beside for our defaults.

model_index.json   unet/   vae/   text_encoder/   tokenizer/   scheduler/   latentbrush.json
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from latentbrush.conditioning import TextConditioner, Tokenizer
from latentbrush.devices import choose_device, choose_dtype, enough_memory
from latentbrush.errors import UserError
from latentbrush.files import read_json, write_json
from latentbrush.formats import configs
from latentbrush.formats.empty import without_memory
from latentbrush.formats.fields import Fields
from latentbrush.formats.keys import AUTOENCODER, CLIP_TEXT, UNET, Names
from latentbrush.formats.links import refuse_links_out
from latentbrush.formats.replace import replaced_folder
from latentbrush.formats.scheduler import Scheduler, read_scheduler, write_scheduler
from latentbrush.formats.shipped import resolve_model
from latentbrush.formats.weights import (
    Entry,
    check_weights,
    find_weights,
    load_weights,
    save_weights,
    stored_dtype,
)
from latentbrush.model import LatentDiffusion, ModelDefaults
from latentbrush.nn import AutoencoderKL, CLIPTextModel, UNet
from latentbrush.origin import Origin

__all__ = [
    "load_autoencoder",
    "load_model",
    "load_tokenizer",
    "outline_model",
    "save_autoencoder",
    "save_model",
    "weight_entries",
]

INDEX, OURS = "model_index.json", "latentbrush.json"
DIFFUSERS_STEM, TRANSFORMERS_STEM = "diffusion_pytorch_model", "model"
PARTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "vae": ("diffusers", ("AutoencoderKL",)),
    "unet": ("diffusers", ("UNet2DConditionModel",)),
    "text_encoder": ("transformers", ("CLIPTextModel",)),
    "tokenizer": ("transformers", ("CLIPTokenizer", "CLIPTokenizerFast")),
}
WEIGHTS: Mapping[str, tuple[str, Names]] = {
    "vae": (DIFFUSERS_STEM, AUTOENCODER),
    "unet": (DIFFUSERS_STEM, UNET),
    "text_encoder": (TRANSFORMERS_STEM, CLIP_TEXT),
}
"""Part -> how its file begins, and what parameters are called in it."""
# Not run here: the safety checker, and what serves it or image prompts.
UNUSED_PARTS = ("safety_checker", "feature_extractor", "image_encoder")

Network = TypeVar("Network", bound=nn.Module)
Config = TypeVar("Config")


def load_model(
    model: str | Path,
    *,
    sampler: str | None = None,
    dtype: torch.dtype | str = "auto",
    device: torch.device | str = "auto",
    low_memory: bool = False,
) -> LatentDiffusion:
    """Read a text-to-image model of the Stable Diffusion 1 and 2 family, ready to paint (eval mode).

    `model`: a folder, or the name of a shipped model. `sampler`: instead of the scheduler that the folder
    names, of which then only schedule, prediction type and spacing are read.
    `device`: cpu, cuda, cuda:1, mps, ...; auto is an accelerator where there is one. `dtype`: of all weights,
    whatever they are stored as: float32, float16 or bfloat16; auto is float32 on a CPU, elsewhere half
    precision for weights that are stored so. `low_memory`: parts are on the device only while they work.
    UserError for whatever is missing, broken, unknown or does not fit.
    """
    place = choose_device(device)
    directory = _resolved(model)
    _read_index(directory)  # what the folder lacks says more than what a part of it lacks
    kind = choose_dtype(dtype, place, stored_dtype(directory / "unet", DIFFUSERS_STEM))
    result = assemble(directory, sampler, _weights_in(directory, kind), _origin(directory, sampler))
    return placed(result, place, f"the model {directory}", low_memory=low_memory)


def placed(model: LatentDiffusion, place: torch.device, name: str, *, low_memory: bool) -> LatentDiffusion:
    """The model on its device, or its parts ready to go there. UserError, with its `name`, where it has no room."""
    if low_memory:
        return model.one_part_on(place)
    with enough_memory(f"{name} on {place}", "choose low_memory, float16, or another device"):
        return model.to(place)


def outline_model(model: str | Path, *, sampler: str | None = None) -> LatentDiffusion:
    """As `load_model`, and as strict, but no weights are read: the networks stand on the meta device."""
    directory = _resolved(model)
    _read_index(directory)
    return assemble(directory, sampler, _weights_in(directory, None), _origin(directory, sampler))


def load_tokenizer(model: str | Path) -> Tokenizer:
    """A model's tokeniser alone. UserError for what of its files is missing, broken or foreign."""
    directory = _resolved(model)
    _read_index(directory)
    config = configs.read_text_config(_fields(directory / "text_encoder" / "config.json"))
    return Tokenizer.from_folder(directory / "tokenizer", positions=config.max_positions)


def weight_entries(model: LatentDiffusion, directory: Path) -> dict[str, list[Entry]]:
    """Part -> the tensors of `model` in the folder's files, as the files' headers describe them."""
    networks = {"vae": model.autoencoder, "unet": model.unet, "text_encoder": model.text.encoder}
    return {
        part: list(check_weights(networks[part], directory / part, stem, names).values())
        for part, (stem, names) in WEIGHTS.items()
    }


def _resolved(model: str | Path) -> Path:
    """The model's folder. UserError where links lead out of it."""
    directory = resolve_model(model)
    refuse_links_out(directory, (INDEX, OURS, *PARTS, "scheduler"))
    return directory


Fill = Callable[[str, nn.Module], None]
"""Gives the network of a part its weights, or checks that it could."""


def assemble(directory: Path, sampler: str | None, fill: Fill, origin: Origin) -> LatentDiffusion:
    """All parts together, as the settings in a folder describe them, with the weights that `fill` has for them."""
    scheduler_class = _read_index(directory)
    scheduler_fields = _fields(directory / "scheduler" / "scheduler_config.json")
    scheduler = read_scheduler(scheduler_fields, scheduler_class, sampler)
    encoder = _filled("text_encoder", directory, configs.read_text_config, CLIPTextModel, fill)
    positions = encoder.config.max_positions
    tokenizer = Tokenizer.from_folder(directory / "tokenizer", positions=positions)
    options, defaults = _read_ours(directory)
    return LatentDiffusion(
        _filled("vae", directory, configs.read_autoencoder_config, AutoencoderKL, fill),
        _filled("unet", directory, configs.read_unet_config, UNet, fill),
        TextConditioner(tokenizer, encoder).eval(),
        schedule=scheduler.schedule,
        prediction=scheduler.prediction,
        sampler=scheduler.sampler,
        plan_options={**scheduler.plan_options, **options},
        defaults=defaults,
        origin=origin,
    )


def save_model(
    model: LatentDiffusion,
    directory: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
) -> None:
    """Write a folder that `load_model` and diffusers' StableDiffusionPipeline open.

    `dtype`: float32 or float16, of the weights in the files. The folder appears whole or not at all.
    UserError for a folder that is there and not empty, unless `overwrite`, which replaces all of it.
    """
    with replaced_folder(Path(directory), overwrite=overwrite, ours=(INDEX,)) as new:
        tokenizer, encoder = model.text.tokenizer, model.text.encoder
        ids = {"bos_id": tokenizer.bos_id, "eos_id": tokenizer.eos_id, "pad_id": tokenizer.pad_id}
        scheduler = Scheduler(model.schedule, model.prediction, model.sampler, model.plan_options)
        scheduler_config = write_scheduler(scheduler)
        write_json(new / INDEX, index_of(str(scheduler_config["_class_name"])))
        (new / "scheduler").mkdir()
        write_json(new / "scheduler" / "scheduler_config.json", scheduler_config)
        tokenizer.save(new / "tokenizer")
        text_config = configs.write_text_config(encoder.config, **ids)
        _write(new / "text_encoder", encoder, text_config, TRANSFORMERS_STEM, CLIP_TEXT, dtype)
        unet_config = configs.write_unet_config(model.unet.config)
        _write(new / "unet", model.unet, unet_config, DIFFUSERS_STEM, UNET, dtype)
        _write_autoencoder(new / "vae", model.autoencoder, dtype)
        _write_ours(new, model)


def load_autoencoder(directory: str | Path, *, dtype: torch.dtype = torch.float32) -> AutoencoderKL:
    """Read an autoencoder alone: its own folder, or the vae folder of a whole model (or of its name)."""
    path = resolve_model(directory)
    if (path / INDEX).is_file():
        path = path / "vae"
    refuse_links_out(path)
    config = configs.read_autoencoder_config(_fields(path / "config.json"))
    with without_memory():
        autoencoder = AutoencoderKL(config)
    load_weights(autoencoder, path, *WEIGHTS["vae"], dtype)
    return autoencoder.eval()


def save_autoencoder(
    autoencoder: AutoencoderKL,
    directory: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
) -> None:
    """Write a folder that `load_autoencoder` and diffusers' AutoencoderKL open. As `save_model`."""
    with replaced_folder(Path(directory), overwrite=overwrite, ours=("config.json",)) as new:
        _write_autoencoder(new, autoencoder, dtype)


def _write_autoencoder(directory: Path, autoencoder: AutoencoderKL, dtype: torch.dtype) -> None:
    config = configs.write_autoencoder_config(autoencoder.config)
    _write(directory, autoencoder, config, DIFFUSERS_STEM, AUTOENCODER, dtype)


def _origin(directory: Path, sampler: str | None) -> Origin:
    weights = [file for part, (stem, _) in WEIGHTS.items() for file in find_weights(directory / part, stem)]
    folders = [directory, *(directory / part for part in (*PARTS, "scheduler"))]
    settings = [file for folder in folders for kind in ("*.json", "*.txt") for file in folder.glob(kind)]
    return Origin(directory, weights, settings, sampler)


def _fields(path: Path) -> Fields:
    return Fields(path, read_json(path))


def _filled(
    part: str, directory: Path, read_config: Callable[[Fields], Config], make: Callable[[Config], Network], fill: Fill
) -> Network:
    """A network from its config.json. Made without memory or initialisation, then filled."""
    config = read_config(_fields(directory / part / "config.json"))
    with without_memory():
        network = make(config)
    fill(part, network)
    return network.eval()


def _weights_in(directory: Path, dtype: torch.dtype | None) -> Fill:
    """From the parts' own folders; `dtype`: None to check that the files have all it wants, and leave it empty."""

    def fill(part: str, network: nn.Module) -> None:
        stem, names = WEIGHTS[part]
        if dtype is None:
            check_weights(network, directory / part, stem, names)
        else:
            load_weights(network, directory / part, stem, names, dtype)

    return fill


def _write(
    directory: Path, network: nn.Module, config: Mapping[str, Any], stem: str, names: Names, dtype: torch.dtype
) -> None:
    directory.mkdir(exist_ok=True)
    write_json(directory / "config.json", config)
    save_weights(network, directory / f"{stem}.safetensors", names, dtype)


def _read_index(directory: Path) -> str:
    """The scheduler's class. UserError unless model_index.json names a Stable Diffusion model's parts."""
    path = directory / INDEX
    if not path.is_file():
        found = ", ".join(sorted(entry.name for entry in directory.iterdir())[:5]) or "nothing"
        raise UserError(f"{directory} has no {INDEX} (but {found}); give the folder that holds unet and vae")
    fields = _fields(path)
    pipeline = fields.raw("_class_name")
    for part, (library, classes) in PARTS.items():
        found = fields.raw(part)
        if found not in [[library, name] for name in classes]:
            raise UserError(
                f"{path}: {part} of {pipeline} is {found}; only {library}'s {' or '.join(classes)} is "
                "supported, as in Stable Diffusion 1 and 2"
            )
    scheduler = fields.raw("scheduler")
    if not (isinstance(scheduler, list) and len(scheduler) == 2 and isinstance(scheduler[1], str)):
        raise fields.wrong("scheduler", scheduler, "a library and a class")
    fields.harmless("requires_safety_checker", *UNUSED_PARTS)
    for part, value in read_json(path).items():
        if value == [None, None]:
            fields.harmless(part)
    fields.done()
    return scheduler[1]


def index_of(scheduler: str) -> dict[str, Any]:
    return {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": configs.DIFFUSERS_VERSION,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", scheduler],
        **{part: [library, classes[0]] for part, (library, classes) in PARTS.items()},
    }


def _read_ours(directory: Path) -> tuple[dict[str, Any], ModelDefaults | None]:
    """latentbrush.json: plan options that diffusers has no field for, and the defaults, if there."""
    if not (directory / OURS).is_file():
        return {}, None
    fields = _fields(directory / OURS)
    fields.only("format", 1)
    defaults = ModelDefaults(
        steps=fields.whole("steps"),
        guidance=fields.number("guidance"),
        width=fields.whole("width"),
        height=fields.whole("height"),
    )
    eta = fields.number("eta", 0.0)
    fields.done()
    return ({"eta": eta} if eta else {}), defaults


def _write_ours(directory: Path, model: LatentDiffusion) -> None:
    defaults = model.defaults
    content = {
        "format": 1,
        "steps": defaults.steps,
        "guidance": defaults.guidance,
        "width": defaults.width,
        "height": defaults.height,
        "eta": model.plan_config("ddim").eta,
    }
    write_json(directory / OURS, content)
