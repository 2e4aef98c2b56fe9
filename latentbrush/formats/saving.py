"""A model into its folder: diffusers' own files, with latentbrush.json beside for our defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from latentbrush.conditioning import Augmentation, XLTextConditioner
from latentbrush.files import write_json
from latentbrush.formats import configs
from latentbrush.formats.first_stage import check_class, check_scale, write_autoencoder, write_first_stage
from latentbrush.formats.folder import CONFIG, SCHEDULER, networks_of
from latentbrush.formats.index import INDEX, LOW_RES, Index, write_index
from latentbrush.formats.kinds import kind_of
from latentbrush.formats.network import write_network
from latentbrush.formats.ours import OURS, written_ours
from latentbrush.formats.pipelines import pipeline_of, takes_score
from latentbrush.formats.replace import replaced_folder
from latentbrush.formats.scheduler import Scheduler, write_scheduler
from latentbrush.formats.text import write_text
from latentbrush.formats.unet2d import write_unet2d_config
from latentbrush.model import LatentDiffusion
from latentbrush.nn import AutoencoderKL, TinyAutoencoder, UNet, UNet2D

__all__ = ["save_autoencoder", "save_model"]


def save_model(
    model: LatentDiffusion,
    directory: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
) -> None:
    """Write a folder that `load_model` and the diffusers pipeline for such a model open.

    `dtype`: float32 or float16, of the weights in the files. The folder appears whole or not at all.
    UserError for a folder that is there and not empty, unless `overwrite`, which replaces all of it.
    """
    with replaced_folder(Path(directory), overwrite=overwrite, ours=(INDEX,)) as new:
        index, schedulers = _described(model)
        for name, config in schedulers.items():
            (new / name).mkdir()
            write_json(new / name / CONFIG, config)
        write_json(new / INDEX, write_index(index))
        write_text(new, model.text, dtype)
        write_network("unet", new / "unet", model.unet, _unet_config(model.unet), dtype)
        write_first_stage(new, model.autoencoder, index.kind, dtype)
        write_json(new / OURS, written_ours(model.defaults, eta=model.plan_config("ddim").eta))


def _described(model: LatentDiffusion) -> tuple[Index, Mapping[str, Mapping[str, Any]]]:
    """What its folder says of a model: the index, and folder -> configuration of its schedulers.

    UserError for what the pipeline in which diffusers would open it could not paint the same pictures with.
    """
    kind = kind_of(model)
    index = Index(
        kind=kind,
        pipeline=pipeline_of(model, kind),
        parts=kind.parts_of(networks_of(model)),
        scheduler="",
        tiny=isinstance(model.autoencoder, TinyAutoencoder),
        zero_empty=isinstance(model.text, XLTextConditioner) and model.text.zero_empty,
        aesthetic=takes_score(model),
    )
    own = _scheduler_config(model, index)
    index = replace(index, scheduler=str(own["_class_name"]))
    check_class(index, model.autoencoder)
    check_scale(index, model.autoencoder)
    if model.augmentation is None:
        return index, {SCHEDULER: own}
    small = _small_config(model.augmentation)
    index = replace(index, low_res=str(small["_class_name"]), max_noise_level=model.augmentation.most)
    return index, {SCHEDULER: own, LOW_RES: small}


def _scheduler_config(model: LatentDiffusion, index: Index) -> dict[str, Any]:
    options, stated = dict(model.plan_options), {}
    if index.keeps_offset:
        # The others always take 1, which is why the writer refuses all else.
        stated["steps_offset"] = model.plan_config().steps_offset
        options["steps_offset"] = 1
    clip = model.clip if index.keeps_clip else None
    scheduler = Scheduler(model.schedule, model.prediction, model.sampler, options, model.threshold, clip)
    return write_scheduler(scheduler) | stated


def _small_config(augmentation: Augmentation) -> dict[str, Any]:
    """Of the scheduler that noises an upscaler's small pictures."""
    return write_scheduler(Scheduler(augmentation.schedule, "epsilon", "ddpm", {"steps_offset": 1}))


def _unet_config(unet: UNet | UNet2D) -> dict[str, Any]:
    return write_unet2d_config(unet.config) if isinstance(unet, UNet2D) else configs.write_unet_config(unet.config)


def save_autoencoder(
    autoencoder: AutoencoderKL,
    directory: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
) -> None:
    """Write a folder that `load_autoencoder` and diffusers' AutoencoderKL open. As `save_model`."""
    with replaced_folder(Path(directory), overwrite=overwrite, ours=("config.json",)) as new:
        write_autoencoder(new, autoencoder, dtype)
