"""What the parts of one model must agree on; UserError, with the numbers, where they do not."""

from __future__ import annotations

import math

from latentbrush.conditioning import (
    Augmentation,
    LabelConditioner,
    Task,
    TextConditioner,
    XLTextConditioner,
    find_label_task,
    find_task,
)
from latentbrush.errors import UserError
from latentbrush.nn import (
    AutoencoderConfig,
    FirstStage,
    PixelConfig,
    TinyConfig,
    UNet,
    UNet2D,
    VQConfig,
)

__all__ = ["augmentation_of", "check_latents", "check_scales", "task_of"]

StageConfig = AutoencoderConfig | VQConfig | PixelConfig | TinyConfig
Conditioner = TextConditioner | XLTextConditioner | LabelConditioner


def task_of(autoencoder: FirstStage, unet: UNet | UNet2D, text: Conditioner) -> Task:
    """What the UNet was trained to do, where all widths agree."""
    latent, config = autoencoder.config.latent_channels, unet.config
    if isinstance(text, LabelConditioner):
        task = find_label_task(config.in_channels, config.out_channels, latent, text.classes)
    else:
        task = find_task(config.in_channels, config.out_channels, latent, config.classes)
    if config.context_width != text.width:
        raise UserError(
            f"the UNet reads a context of width {config.context_width}, the text tower writes "
            f"{text.width}; take both from one model"
        )
    if isinstance(text, LabelConditioner) and not text.width and text.classes != config.classes:
        raise UserError(
            f"the UNet knows {config.classes or 'no'} classes, the conditioner {text.classes or 'none'}; give it as "
            "many"
        )
    return task


def augmentation_of(
    given: Augmentation | None, task: Task, unet: UNet | UNet2D, text: Conditioner
) -> Augmentation | None:
    """What an upscaler must know of its small pictures, None for other models."""
    if task != "upscaling" or isinstance(text, LabelConditioner):
        if given is not None:
            raise UserError(f"the model is for {task}, and has a schedule for small pictures; leave that out")
        return None
    result = given or Augmentation()
    classes = unet.config.classes
    assert classes is not None
    if result.most >= classes:
        raise UserError(
            f"max_noise_level is {result.most}, but the UNet knows the noise levels 0 to {classes - 1}; take both "
            "from one model"
        )
    return result


def check_latents(new: StageConfig, own: StageConfig, what: str, remedy: str) -> None:
    """UserError unless pictures become latents of the same shape."""
    for side, found, needed in (
        ("latent channels", new.latent_channels, own.latent_channels),
        ("picture channels", new.in_channels, own.in_channels),
        ("pixels a latent cell", new.factor, own.factor),
    ):
        if found != needed:
            raise UserError(f"the {what} has {found} {side}, the model's autoencoder {needed}; {remedy}")


def check_scales(new: StageConfig, own: StageConfig, what: str, remedy: str) -> None:
    """UserError unless latents are of the same scale.

    Tiny autoencoders were distilled on scaled ones, so that their own number tells nothing of it.
    """
    if isinstance(new, TinyConfig) or isinstance(own, TinyConfig):
        return
    if not math.isclose(new.scaling_factor, own.scaling_factor, rel_tol=1e-3):
        raise UserError(
            f"the {what} scales its latents by {new.scaling_factor}, the model's own by {own.scaling_factor}; {remedy}"
        )
