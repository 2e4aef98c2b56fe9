"""A model's folder, the native format: diffusers' own, with latentbrush.json beside for our defaults.

model_index.json   unet/   vae/   text_encoder/   tokenizer/   scheduler/   latentbrush.json
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from latentbrush.conditioning import Tokenizer, XLTextConditioner
from latentbrush.devices import choose_device, choose_dtype, enough_memory
from latentbrush.errors import UserError
from latentbrush.files import write_json
from latentbrush.formats import configs
from latentbrush.formats.index import INDEX, TOKENIZERS, TOWERS, Index, pipeline_name, read_index, write_index
from latentbrush.formats.links import refuse_links_out
from latentbrush.formats.network import KINDS, Fill, fields_of, filled_from, read_network, write_network
from latentbrush.formats.parts import readers_of
from latentbrush.formats.replace import replaced_folder
from latentbrush.formats.scheduler import Scheduler, read_scheduler, write_scheduler
from latentbrush.formats.shipped import resolve_model
from latentbrush.formats.store import Entry
from latentbrush.formats.text import read_text, text_networks, write_text
from latentbrush.formats.tiny_autoencoder import write_tiny_config
from latentbrush.formats.weights import check_weights, find_weights, stored_dtype
from latentbrush.model import LatentDiffusion, ModelDefaults
from latentbrush.nn import AutoencoderKL, TinyAutoencoder, UNet
from latentbrush.origin import Origin

__all__ = [
    "assemble",
    "load_autoencoder",
    "load_model",
    "load_tokenizer",
    "networks_of",
    "outline_model",
    "placed",
    "save_autoencoder",
    "save_model",
    "weight_entries",
]

OURS = "latentbrush.json"
SCHEDULER = "scheduler"
AESTHETIC_NUMBERS = 5
"""What the refiner of Stable Diffusion XL takes beside the words, the last of them an aesthetic score."""


def load_model(
    model: str | Path,
    *,
    sampler: str | None = None,
    dtype: torch.dtype | str = "auto",
    device: torch.device | str = "auto",
    low_memory: bool = False,
) -> LatentDiffusion:
    """Read a model of the Stable Diffusion 1, 2 or XL family, ready to paint (eval mode).

    `model`: a folder, or the name of a shipped model. `sampler`: instead of the scheduler that the folder
    names, of which then only schedule, prediction type and spacing are read.
    `device`: cpu, cuda, cuda:1, mps, ...; auto is an accelerator where there is one. `dtype`: of all weights,
    whatever they are stored as: float32, float16, bfloat16 or float64; auto is float32 on a CPU, elsewhere
    half precision for weights that are stored so. `low_memory`: parts are on the device only while they work.
    UserError for whatever is missing, broken, unknown or does not fit.
    """
    place = choose_device(device)
    directory = _resolved(model)
    read_index(directory)  # what the folder lacks says more than what a part of it lacks
    kind = choose_dtype(dtype, place, stored_dtype(directory / "unet", KINDS["unet"][0]))
    result = assemble(directory, sampler, filled_from(directory, kind), _origin(directory, sampler))
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
    read_index(directory)
    return assemble(directory, sampler, filled_from(directory, None), _origin(directory, sampler))


def load_tokenizer(model: str | Path) -> Tokenizer:
    """A model's tokeniser alone, of two the second. UserError for what of its files is missing, broken or foreign."""
    directory = _resolved(model)
    second = read_index(directory).is_xl
    config = configs.read_text_config(fields_of(directory / TOWERS[second] / "config.json"))
    return Tokenizer.from_folder(directory / TOKENIZERS[second], positions=config.max_positions)


def networks_of(model: LatentDiffusion) -> dict[str, nn.Module]:
    """Part -> network, by the names of the folders in which they lie."""
    return {"unet": model.unet, "vae": model.autoencoder, **text_networks(model.text)}


def weight_entries(model: LatentDiffusion, directory: Path) -> dict[str, list[Entry]]:
    """Part -> the tensors of `model` in the folder's files, as the files' headers describe them."""
    return {
        part: list(check_weights(network, directory / part, *KINDS[part]).values())
        for part, network in networks_of(model).items()
    }


def _resolved(model: str | Path) -> Path:
    """The model's folder. UserError where links lead out of it."""
    directory = resolve_model(model)
    refuse_links_out(directory, (INDEX, OURS, *KINDS, *TOKENIZERS, SCHEDULER))
    return directory


def assemble(directory: Path, sampler: str | None, fill: Fill, origin: Origin) -> LatentDiffusion:
    """All parts together, as the settings in a folder describe them, with the weights that `fill` has for them."""
    index = read_index(directory)
    scheduler = _read_scheduler(directory, index, sampler)
    text = read_text(directory, index, fill)
    options, defaults = _read_ours(directory)
    unet = (configs.read_unet_config, UNet)
    autoencoder = read_network("vae", directory / "vae", readers_of("vae", directory / "vae"), fill)
    assert isinstance(autoencoder, AutoencoderKL | TinyAutoencoder)
    _check_kind(directory, index, autoencoder)
    model = LatentDiffusion(
        autoencoder,
        read_network("unet", directory / "unet", unet, fill),
        text,
        schedule=scheduler.schedule,
        prediction=scheduler.prediction,
        sampler=scheduler.sampler,
        plan_options={**scheduler.plan_options, **options},
        threshold=scheduler.threshold,
        defaults=defaults,
        origin=origin,
    )
    _check_aesthetic(directory, index, model)
    return model


def _check_kind(directory: Path, index: Index, autoencoder: AutoencoderKL | TinyAutoencoder) -> None:
    if index.tiny != isinstance(autoencoder, TinyAutoencoder):
        said = "AutoencoderTiny" if index.tiny else "AutoencoderKL"
        raise UserError(f"{directory / INDEX}: vae is an {said}, but vae/config.json is of the other kind; correct it")


def _check_aesthetic(directory: Path, index: Index, model: LatentDiffusion) -> None:
    takes = model.micro_count == AESTHETIC_NUMBERS
    if takes != index.aesthetic:
        raise UserError(
            f"{directory / INDEX}: requires_aesthetics_score is {index.aesthetic}, but the UNet takes "
            f"{model.micro_count} numbers beside the words, {'with' if takes else 'without'} a score; correct it there"
        )


def _read_scheduler(directory: Path, index: Index, sampler: str | None) -> Scheduler:
    fields = fields_of(directory / SCHEDULER / "scheduler_config.json")
    scheduler = read_scheduler(fields, index.scheduler, sampler)
    if not index.keeps_offset:
        return scheduler
    return replace(scheduler, plan_options={**scheduler.plan_options, "steps_offset": fields.whole("steps_offset", 0)})


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
        index = _write_scheduler(new / SCHEDULER, model)
        write_json(new / INDEX, write_index(index))
        write_text(new, model.text, dtype)
        write_network("unet", new / "unet", model.unet, configs.write_unet_config(model.unet.config), dtype)
        _write_autoencoder(new / "vae", model.autoencoder, dtype)
        _write_ours(new, model)


def _write_scheduler(directory: Path, model: LatentDiffusion) -> Index:
    """Writes it; returns the index in which it stands."""
    aesthetic = model.micro_count == AESTHETIC_NUMBERS
    towers = text_networks(model.text)
    tokenizers = [name for tower, name in zip(TOWERS, TOKENIZERS, strict=True) if tower in towers]
    index = Index(
        pipeline=pipeline_name(model.task, xl=model.is_xl, aesthetic=aesthetic),
        parts=("vae", "unet", *towers, *tokenizers),
        scheduler="",
        tiny=isinstance(model.autoencoder, TinyAutoencoder),
        zero_empty=isinstance(model.text, XLTextConditioner) and model.text.zero_empty,
        aesthetic=aesthetic,
    )
    options, stated = dict(model.plan_options), {}
    if index.keeps_offset:
        # The others always take 1, which is why the writer refuses all else.
        stated["steps_offset"] = model.plan_config().steps_offset
        options["steps_offset"] = 1
    scheduler = Scheduler(model.schedule, model.prediction, model.sampler, options, model.threshold)
    config = write_scheduler(scheduler) | stated
    directory.mkdir()
    write_json(directory / "scheduler_config.json", config)
    return replace(index, scheduler=str(config["_class_name"]))


def load_autoencoder(directory: str | Path, *, dtype: torch.dtype = torch.float32) -> AutoencoderKL:
    """Read an autoencoder alone: its own folder, or the vae folder of a whole model (or of its name)."""
    path = resolve_model(directory)
    if (path / INDEX).is_file():
        path = path / "vae"
    refuse_links_out(path)
    readers = (configs.read_autoencoder_config, AutoencoderKL)
    return read_network("vae", path, readers, filled_from(path, dtype, alone=True))


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


def _write_autoencoder(directory: Path, autoencoder: AutoencoderKL | TinyAutoencoder, dtype: torch.dtype) -> None:
    if isinstance(autoencoder, TinyAutoencoder):
        config = write_tiny_config(autoencoder.config)
    else:
        config = configs.write_autoencoder_config(autoencoder.config)
    write_network("vae", directory, autoencoder, config, dtype)


def _origin(directory: Path, sampler: str | None) -> Origin:
    index = read_index(directory)
    parts = [part for part in index.parts if part in KINDS]
    weights = [file for part in parts for file in find_weights(directory / part, KINDS[part][0])]
    folders = [directory, *(directory / part for part in (*index.parts, SCHEDULER))]
    settings = [file for folder in folders for kind in ("*.json", "*.txt") for file in folder.glob(kind)]
    return Origin(directory, weights, settings, sampler)


def _read_ours(directory: Path) -> tuple[dict[str, Any], ModelDefaults | None]:
    """latentbrush.json: plan options that diffusers has no field for, and the defaults, if there."""
    if not (directory / OURS).is_file():
        return {}, None
    fields = fields_of(directory / OURS)
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
