"""A model out of its folder, the native format: diffusers' own, with latentbrush.json beside for our defaults.

model_index.json   unet/   vae/   text_encoder/   tokenizer/   scheduler/   latentbrush.json
(LDM's own text-to-image model: vqvae/ and bert/ instead of vae/ and text_encoder/)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from latentbrush.conditioning import Augmentation, LabelConditioner, PromptTokenizer, Tokenizer
from latentbrush.devices import choose_device, choose_dtype, enough_memory
from latentbrush.errors import UserError
from latentbrush.formats import configs
from latentbrush.formats.bert import read_bert_config
from latentbrush.formats.first_stage import AUTOENCODER_READERS, read_first_stage, stage_networks
from latentbrush.formats.index import INDEX, LOW_RES, Index, read_index
from latentbrush.formats.kinds import BERT, LDM_BERT, TOKENIZERS, TOWERS, XL, kind_of
from latentbrush.formats.links import refuse_links_out
from latentbrush.formats.network import KINDS, Fill, fields_of, filled_from, place_of, read_network
from latentbrush.formats.ours import OURS, read_ours
from latentbrush.formats.pipelines import takes_score
from latentbrush.formats.scheduler import Scheduler, read_scheduler
from latentbrush.formats.shipped import resolve_model
from latentbrush.formats.store import Entry
from latentbrush.formats.text import bert_tokenizer, read_text, text_networks
from latentbrush.formats.unet2d import read_unet2d_config
from latentbrush.formats.weights import check_weights, find_weights, stored_dtype
from latentbrush.model import LatentDiffusion
from latentbrush.nn import AutoencoderKL, UNet, UNet2D
from latentbrush.origin import Origin

__all__ = [
    "CONFIG",
    "SCHEDULER",
    "assemble",
    "load_autoencoder",
    "load_model",
    "load_tokenizer",
    "networks_of",
    "outline_model",
    "placed",
    "weight_entries",
]

SCHEDULER, CONFIG = "scheduler", "scheduler_config.json"


def load_model(
    model: str | Path,
    *,
    sampler: str | None = None,
    dtype: torch.dtype | str = "auto",
    device: torch.device | str = "auto",
    low_memory: bool = False,
) -> LatentDiffusion:
    """Read a model of the Stable Diffusion 1, 2 or XL family, or one without words, ready to paint (eval mode).

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
    kind = choose_dtype(dtype, place, stored_dtype(place_of(directory, "unet"), KINDS["unet"][0]))
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


def load_tokenizer(model: str | Path) -> PromptTokenizer:
    """A model's tokeniser alone, of two the second. UserError for what of its files is missing, broken or foreign."""
    directory = _resolved(model)
    index = read_index(directory)
    if index.kind is LDM_BERT:
        bert = read_bert_config(fields_of(directory / BERT / "config.json"))
        return bert_tokenizer(directory, bert.max_positions)
    if index.kind.reads != "words":
        raise UserError(f"{directory} reads no words, so it has no tokeniser; name a model with a text tower")
    second = index.kind is XL
    config = configs.read_text_config(fields_of(directory / TOWERS[second] / "config.json"))
    return Tokenizer.from_folder(directory / TOKENIZERS[second], positions=config.max_positions)


def networks_of(model: LatentDiffusion) -> dict[str, nn.Module]:
    """Part -> network, by the names of the folders in which they lie."""
    stages = stage_networks(model.autoencoder, kind_of(model))
    return {"unet": model.unet, **stages, **text_networks(model.text)}


def weight_entries(model: LatentDiffusion, directory: Path) -> dict[str, list[Entry]]:
    """Part -> the tensors of `model` in the folder's files, as the files' headers describe them."""
    return {
        part: list(check_weights(network, place_of(directory, part), *KINDS[part]).values())
        for part, network in networks_of(model).items()
    }


def _resolved(model: str | Path) -> Path:
    """The model's folder. UserError where links lead out of it."""
    directory = resolve_model(model)
    flat = [path.name for kind in ("*config.json", "diffusion_pytorch_model*") for path in directory.glob(kind)]
    refuse_links_out(directory, (INDEX, OURS, *KINDS, *TOKENIZERS, SCHEDULER, LOW_RES, *flat))
    return directory


def assemble(directory: Path, sampler: str | None, fill: Fill, origin: Origin) -> LatentDiffusion:
    """All parts together, as the settings in a folder describe them, with the weights that `fill` has for them."""
    index = read_index(directory)
    scheduler = _read_scheduler(directory, index, sampler)
    # The words first: what is wrong with a tokeniser is told before large networks are made.
    text = None if index.kind.reads == "nothing" else read_text(directory, index, fill)
    options, defaults = read_ours(directory)
    unet: UNet | UNet2D
    if text is None:
        unet = read_network("unet", place_of(directory, "unet"), (read_unet2d_config, UNet2D), fill)
    else:
        unet = read_network("unet", directory / "unet", (configs.read_unet_config, UNet), fill)
    model = LatentDiffusion(
        read_first_stage(directory, index, fill, unet.config.sample_size),
        unet,
        text or LabelConditioner(unet.config.classes).eval(),
        schedule=scheduler.schedule,
        prediction=scheduler.prediction,
        sampler=scheduler.sampler,
        plan_options={**scheduler.plan_options, **options},
        threshold=scheduler.threshold,
        augmentation=_read_augmentation(directory, index),
        clip=scheduler.clip,
        limits=scheduler.limits,
        defaults=defaults,
        origin=origin,
    )
    _check_aesthetic(directory, index, model)
    if model.augmentation is not None and index.low_res is None:
        raise UserError(f"{directory / INDEX} names no {LOW_RES}, which an upscaler needs; get the whole folder")
    return model


def _read_augmentation(directory: Path, index: Index) -> Augmentation | None:
    """Of the scheduler that noises small pictures only the schedule is ever asked for."""
    if index.low_res is None:
        return None
    scheduler = read_scheduler(fields_of(directory / LOW_RES / CONFIG), index.low_res, "ddpm")
    return Augmentation(scheduler.schedule, index.max_noise_level)


def _check_aesthetic(directory: Path, index: Index, model: LatentDiffusion) -> None:
    takes = takes_score(model)
    if takes != index.aesthetic:
        raise UserError(
            f"{directory / INDEX}: requires_aesthetics_score is {index.aesthetic}, but the UNet takes "
            f"{model.micro_count} numbers beside the words, {'with' if takes else 'without'} a score; correct it there"
        )


def _read_scheduler(directory: Path, index: Index, sampler: str | None) -> Scheduler:
    fields = fields_of(place_of(directory, SCHEDULER) / CONFIG)
    scheduler = read_scheduler(fields, index.scheduler, sampler, clips=index.keeps_clip)
    if index.never_starts_slowly and sampler is None and scheduler.sampler == "pndm":
        scheduler = replace(scheduler, sampler="plms")
    if not index.keeps_offset:
        return scheduler
    return replace(scheduler, plan_options={**scheduler.plan_options, "steps_offset": fields.whole("steps_offset", 0)})


def load_autoencoder(directory: str | Path, *, dtype: torch.dtype = torch.float32) -> AutoencoderKL:
    """Read an autoencoder alone: its own folder, or the vae folder of a whole model (or of its name)."""
    path = resolve_model(directory)
    if (path / INDEX).is_file():
        path = path / "vae"
    refuse_links_out(path)
    return read_network("vae", path, AUTOENCODER_READERS, filled_from(path, dtype, alone=True))


def _origin(directory: Path, sampler: str | None) -> Origin:
    index = read_index(directory)
    parts = [part for part in index.parts if part in KINDS]
    weights = [file for part in parts for file in find_weights(place_of(directory, part), KINDS[part][0])]
    folders = dict.fromkeys([directory, *(place_of(directory, part) for part in (*index.parts, SCHEDULER, LOW_RES))])
    settings = [file for folder in folders for kind in ("*.json", "*.txt") for file in folder.glob(kind)]
    return Origin(directory, weights, settings, sampler)
