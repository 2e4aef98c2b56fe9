"""What a model is, told from its configurations and the headers of its weights: no weights are read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from latentbrush.conditioning import LabelConditioner
from latentbrush.formats.alone import open_alone
from latentbrush.formats.folder import networks_of, weight_entries
from latentbrush.formats.opening import outline_model, outlined_file, single_file
from latentbrush.formats.shipped import resolve_model
from latentbrush.formats.single import Weights
from latentbrush.formats.store import Entry
from latentbrush.model import LatentDiffusion
from latentbrush.nn import (
    AutoencoderConfig,
    AutoencoderKL,
    CLIPTextConfig,
    Pixels,
    ProjectedTextConfig,
    TinyAutoencoder,
    TinyConfig,
)

__all__ = ["AloneSummary", "ModelSummary", "PartSummary", "summarise", "summarise_alone"]

DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
"""safetensors' names of number types and torch's."""
WIDTHS = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}
"""Bytes of a number."""
KIND_NAMES = {
    "unet": "UNet",
    "vae": "KL autoencoder",
    "vqvae": "VQ autoencoder",
    "text_encoder": "CLIP text tower",
    "text_encoder_2": "CLIP text tower",
    "bert": "LDM's text tower",
    "class_token": "table of classes",
}
FAMILIES = {0: "Stable Diffusion", 5: "Stable Diffusion XL's refiner", 6: "Stable Diffusion XL"}
"""By the numbers that the UNet takes beside the words."""


@dataclass(frozen=True)
class PartSummary:
    """One network: the folder it lies in, or would lie in, what it is, how many parameters it has, and how its files,
    of `size` bytes, or its share of a file, hold them."""

    name: str
    kind: str
    parameters: int
    size: int
    dtypes: tuple[str, ...]
    files: tuple[str, ...]


@dataclass(frozen=True)
class ModelSummary:
    """A whole model. `size`: bytes of the weights' files; `memory`: bytes of the weights by number type.

    `family`: what kind of model it is, and for which task; `told`: how that is known of a single file. `schedule`,
    `sampler`, `defaults`, `tokens` and `latents` say each with a few names what the model was trained with, how it
    is sampled unless a request says otherwise, and what goes in between. `tokens` is empty for a model without words;
    `classes`: how many such a one knows, if any.
    """

    model: str
    folder: str
    parts: tuple[PartSummary, ...]
    parameters: int
    size: int
    memory: Mapping[str, int]
    family: str
    told: str
    prediction: str
    schedule: Mapping[str, Any]
    sampler: Mapping[str, Any]
    defaults: Mapping[str, Any]
    tokens: Mapping[str, int]
    latents: Mapping[str, int]
    classes: int | None = None


@dataclass(frozen=True)
class AloneSummary:
    """One part by itself; `facts`: what else there is to say of it. `told`: how it is known of a single file."""

    model: str
    folder: str
    part: PartSummary
    told: str
    facts: Mapping[str, Any]


def summarise_alone(model: str | Path, config: str | Path | None = None) -> AloneSummary | None:
    """Tell what a folder or file of an autoencoder or a text tower holds; None for all else. UserError as there."""
    alone = open_alone(model, config=config)
    if alone is None:
        return None
    facts: dict[str, Any] = {}
    settings = getattr(alone.network, "config", None)
    if isinstance(settings, AutoencoderConfig | TinyConfig):
        facts = {
            "latents": f"{settings.latent_channels} channels, f = {settings.factor}",
            "scaling factor": settings.scaling_factor,
            "force_upcast": settings.force_upcast,
        }
    elif isinstance(settings, CLIPTextConfig | ProjectedTextConfig):
        text = settings if isinstance(settings, CLIPTextConfig) else settings.text
        facts = {"tokens": f"{text.max_positions} places, of {text.vocab_size:,}", "context": f"{text.width} wide"}
    told = "; ".join(note for note in (alone.told, alone.doubt) if note)
    part = _part(alone.part, _kind(alone.part, alone.network), alone.network, {alone.part: alone.entries})
    return AloneSummary(str(model), str(alone.path.absolute()), part, told, facts)


def _kind(part: str, network: nn.Module) -> str:
    """By the network, not the part alone: LDM's text-to-image model has a KL autoencoder where others have a VQ one."""
    kinds = {AutoencoderKL: KIND_NAMES["vae"], TinyAutoencoder: "tiny autoencoder"}
    return kinds.get(type(network), KIND_NAMES[part])


def summarise(
    model: str | Path,
    *,
    sampler: str | None = None,
    prediction: str | None = None,
    weights: Weights | None = None,
    config: str | Path | None = None,
) -> ModelSummary:
    """Tell what a folder, a single file, or the shipped model of a name, holds.

    The options are those of `load_model`, and as strict: UserError for all that would keep the model from painting,
    but for what only the weights' data could say.
    """
    file = single_file(model)
    if file is None:
        directory = resolve_model(model)
        outline = outline_model(model, sampler=sampler, prediction=prediction, weights=weights, config=config)
        entries = weight_entries(outline, directory)
    else:
        directory = file
        outline, single = outlined_file(file, sampler=sampler, prediction=prediction, weights=weights, config=config)
        entries = {part: single.entries(part) for part in networks_of(outline)}
    parts = tuple(_part(name, _kind(name, network), network, entries) for name, network in networks_of(outline).items())
    parameters = sum(part.parameters for part in parts)
    defaults, plan = outline.defaults, outline.plan_config()
    channels, height, width = outline.latent_shape(defaults.width, defaults.height)
    return ModelSummary(
        model=str(model),
        folder=str(directory.absolute()),
        parts=parts,
        parameters=parameters,
        size=sum(part.size for part in parts) if file is None else file.stat().st_size,
        memory={"float32": 4 * parameters, "float16": 2 * parameters},
        family=f"{_family(outline)}, {outline.task}",
        told="" if outline.origin is None else outline.origin.note,
        prediction=outline.prediction,
        schedule=_schedule(outline),
        sampler={"name": outline.sampler, "spacing": plan.spacing, "eta": plan.eta},
        defaults=asdict(defaults),
        tokens=_tokens(outline),
        latents={"channels": channels, "height": height, "width": width, "factor": outline.factor},
        classes=outline.text.classes if isinstance(outline.text, LabelConditioner) else None,
    )


def _family(model: LatentDiffusion) -> str:
    if model.reads_words and not model.reads_bert:
        return FAMILIES[model.micro_count]
    return "diffusion of pixels (DDPM)" if isinstance(model.autoencoder, Pixels) else "latent diffusion (LDM)"


def _tokens(model: LatentDiffusion) -> dict[str, int]:
    if isinstance(model.text, LabelConditioner):
        return {}
    tokenizer = model.text.tokenizer
    return {
        "vocabulary": tokenizer.vocab_size,
        "positions": tokenizer.max_length,
        "context_width": model.text.width,
    }


def _part(name: str, kind: str, network: nn.Module, entries: Mapping[str, Iterable[Entry]]) -> PartSummary:
    found = list(entries[name])
    files = sorted({entry.file for entry in found})
    return PartSummary(
        name=name,
        kind=kind,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        size=_size(found),
        dtypes=tuple(sorted({DTYPES[entry.dtype] for entry in found})),
        files=tuple(file.name for file in files),
    )


def _size(entries: list[Entry]) -> int:
    """Bytes: of the files, or of its tensors where a file holds other parts, too."""
    files = {entry.file for entry in entries}
    if any(file.parent.name not in KIND_NAMES for file in files):
        return sum(math.prod(entry.shape) * WIDTHS[entry.dtype] for entry in entries)
    return sum(file.stat().st_size for file in files)


def _schedule(model: LatentDiffusion) -> dict[str, Any]:
    """Trained betas have no kind and no ends; what the file says of them beside is not read."""
    schedule = model.schedule
    if schedule.trained_betas is not None:
        betas: dict[str, Any] = {"kind": "trained_betas", "beta_start": None, "beta_end": None}
    elif schedule.is_cosine:
        betas = {"kind": schedule.beta_schedule, "beta_start": None, "beta_end": None}
    else:
        betas = {"kind": schedule.beta_schedule, "beta_start": schedule.beta_start, "beta_end": schedule.beta_end}
    return {**betas, "train_steps": schedule.num_train_timesteps, "zero_terminal_snr": schedule.rescale_zero_snr}
