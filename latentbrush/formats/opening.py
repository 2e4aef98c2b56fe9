"""Opening a model, wherever it lies: the name of a shipped one, a folder, or a single file."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from latentbrush.conditioning import PromptTokenizer
from latentbrush.devices import choose_device, choose_dtype
from latentbrush.errors import UserError
from latentbrush.formats import folder
from latentbrush.formats.alone import with_autoencoder
from latentbrush.formats.settings import Settings, checked_prediction, settings_of
from latentbrush.formats.shipped import shipped_models
from latentbrush.formats.single import SMALL, SingleFile, Weights, empty_networks
from latentbrush.formats.store import open_tensors
from latentbrush.model import LatentDiffusion
from latentbrush.origin import Origin
from latentbrush.request import Stage

__all__ = ["load_model", "load_tokenizer", "outline_model", "outlined_file", "single_file", "with_refiner"]


def single_file(model: str | Path) -> Path | None:
    """The path of a model that is one file; None for names of shipped models, and for all else."""
    if not str(model) or (str(model) in shipped_models() and not isinstance(model, Path)):
        return None
    path = Path(os.path.expanduser(model))
    try:
        return path if path.exists() and not path.is_dir() else None
    except (OSError, ValueError):  # a name too long, or none that a disk can have
        return None


@contextmanager
def _without_collection() -> Iterator[None]:
    """Opening a model makes hundreds of thousands of objects and no garbage; looking for it takes a quarter of the
    time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@_without_collection()
def load_model(
    model: str | Path,
    *,
    sampler: str | None = None,
    prediction: str | None = None,
    weights: Weights | None = None,
    config: str | Path | None = None,
    dtype: torch.dtype | str = "auto",
    device: torch.device | str = "auto",
    low_memory: bool = False,
    vae: str | Path | None = None,
) -> LatentDiffusion:
    """Read a model of latent diffusion, ready to paint (eval mode): Stable Diffusion 1, 2 and XL with its refiner,
    those for inpainting, editing, depth and upscaling, the models of the LDM paper, and, as folders, DDPM's in pixels.

    `model`: a folder, a single file (.safetensors, or .ckpt, of which no code is run), or the name of a shipped
    model. `sampler`: instead of the scheduler that the folder names, of which then only schedule, prediction type
    and spacing are read. `prediction`: epsilon, v_prediction or sample, instead of what the model says, or what is
    assumed of a file that does not say it. `device`: cpu, cuda, cuda:1, mps, ...; auto is an accelerator where
    there is one. `dtype`: of all weights, whatever they are stored as: float32, float16, bfloat16 or float64; auto is
    float32 on a CPU, elsewhere half precision for weights that are stored so. `low_memory`: parts are on the
    device only while they work. `vae`: the folder or file of an autoencoder to take instead of the model's own.

    Of single files alone: `weights`: ema, the UNet's moving average, or raw; the average where there is one.
    `config`: a folder whose settings describe the file, instead of its own or those of its family.
    UserError for whatever is missing, broken, unknown or does not fit.
    """
    chosen = checked_prediction(prediction)
    path = single_file(model)
    if path is None:
        _only_for_files(model, weights, config)
        loaded = folder.load_model(model, sampler=sampler, dtype=dtype, device=device, low_memory=low_memory)
        loaded.prediction = chosen or loaded.prediction
        return with_autoencoder(loaded, vae)
    place = choose_device(device)
    with _opened(path, config, prediction, weights) as (single, settings):
        kind = choose_dtype(dtype, place, single.stored_dtype("unet"))
        loaded = _assembled(single, settings, sampler, kind)
    return with_autoencoder(folder.placed(loaded, place, f"the model {path}", low_memory=low_memory), vae)


def with_refiner(model: LatentDiffusion, stages: Sequence[Stage], *, sampler: str | None = None) -> LatentDiffusion:
    """The model itself, with the refiner that a request's `stages` name, if any, where and as the model is: in its
    type, on its device, with low memory if it has.

    UserError as `load_model`, and where the two do not fit together.
    """
    for stage in stages:
        options: dict[str, Any] = {"dtype": model.dtype, "device": model.device, "low_memory": model.is_low_memory}
        try:
            refiner = load_model(stage.model, sampler=sampler, **options)
        except UserError as error:
            raise UserError(f"the refiner: {error}") from None
        model.refine_by(refiner, stage.model)
    return model


def outline_model(
    model: str | Path,
    *,
    sampler: str | None = None,
    prediction: str | None = None,
    weights: Weights | None = None,
    config: str | Path | None = None,
) -> LatentDiffusion:
    """As `load_model`, and as strict, but no weights are read: the networks stand on the meta device."""
    path = single_file(model)
    if path is not None:
        return outlined_file(path, sampler=sampler, prediction=prediction, weights=weights, config=config)[0]
    chosen = checked_prediction(prediction)
    _only_for_files(model, weights, config)
    outline = folder.outline_model(model, sampler=sampler)
    outline.prediction = chosen or outline.prediction
    return outline


def outlined_file(
    path: Path,
    *,
    sampler: str | None = None,
    prediction: str | None = None,
    weights: Weights | None = None,
    config: str | Path | None = None,
) -> tuple[LatentDiffusion, SingleFile]:
    """The outline of a single file's model, and the file, which says how its tensors are stored."""
    with _opened(path, config, prediction, weights) as (single, settings):
        return _assembled(single, settings, sampler, None), single


def load_tokenizer(model: str | Path) -> PromptTokenizer:
    """A model's tokeniser alone. UserError for what of its files is missing, broken or foreign."""
    path = single_file(model)
    if path is None:
        return folder.load_tokenizer(model)
    with settings_of(open_tensors(path)) as settings:
        return folder.load_tokenizer(settings.directory)


@contextmanager
def _opened(
    path: Path, config: str | Path | None, prediction: str | None, weights: Weights | None
) -> Iterator[tuple[SingleFile, Settings]]:
    file = open_tensors(path)
    with settings_of(file, config=config, prediction=checked_prediction(prediction)) as settings:
        yield SingleFile(file, empty_networks(settings.directory), weights), settings


def _assembled(
    single: SingleFile, settings: Settings, sampler: str | None, dtype: torch.dtype | None
) -> LatentDiffusion:
    """`dtype`: None to leave the weights in the file."""
    path = single.file.path

    def fill(part: str, network: nn.Module) -> None:
        if dtype is not None:
            network.load_state_dict(single.state(part, dtype), strict=True, assign=True)

    origin = Origin(path.parent, [path], [], sampler)
    model = folder.assemble(settings.directory, sampler, fill, origin)
    single.check_schedule(model.schedule)
    if model.augmentation is not None:
        single.check_schedule(model.augmentation.schedule, SMALL)
    origin.note = _note(model, single, settings)
    return model


def _note(model: LatentDiffusion, single: SingleFile, settings: Settings) -> str:
    """What was found or assumed, on one line."""
    schedule = model.schedule
    doubt = f" ({settings.doubt})" if settings.doubt else ""
    other = f" ({single.left_out} raw ones left out)" if single.chosen == "ema" and single.left_out else ""
    other = other or (f" ({single.left_out} averaged ones left out)" if single.left_out else "")
    return (
        f"{settings.told}; prediction {model.prediction}{doubt}; schedule {schedule.beta_schedule}, "
        f"{schedule.num_train_timesteps} steps; sampler {model.sampler}; {single.chosen} weights{other}"
        f"{'; without its network that estimates depth' if single.has_depth_model else ''}"
    )


def _only_for_files(model: str | Path, weights: Weights | None, config: str | Path | None) -> None:
    for name, value in (("weights", weights), ("config", config)):
        if value is not None:
            raise UserError(f"the option {name} is for single files, and {str(model)!r} is none; leave it out")
