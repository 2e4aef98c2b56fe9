"""What a network was trained to do, as its channels tell: which pictures it reads beside the noisy latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from latentbrush.errors import UserError

__all__ = ["Task", "find_label_task", "find_task"]

Task = Literal[
    "text-to-image", "inpainting", "editing", "depth-to-image", "upscaling", "unconditional", "class-to-image"
]

SMALL_PICTURE = 3
"""Channels of the picture itself that an upscaler reads."""
FURTHER: Mapping[Task, Callable[[int], int]] = {
    "text-to-image": lambda latent: 0,
    "inpainting": lambda latent: 1 + latent,  # the mask, and the latents of the picture without what it covers
    "editing": lambda latent: latent,  # the picture's latents (InstructPix2Pix)
    "depth-to-image": lambda latent: 1,
    "upscaling": lambda latent: SMALL_PICTURE,
}
"""Channels beside those of the latents, by how many the latents have."""


def find_task(in_channels: int, out_channels: int, latent_channels: int, classes: int | None) -> Task:
    """The task of a UNet with these channels, beside an autoencoder with so many of its latents.

    `classes`: an upscaler has them, for the noise level of its small picture. UserError, with the numbers, for
    channels that no task has.
    """
    for task, further in FURTHER.items():
        fits = in_channels == latent_channels + further(latent_channels) and out_channels == latent_channels
        if fits and (classes is not None) == (task == "upscaling"):
            return task
    if in_channels == out_channels == latent_channels:
        raise UserError(
            f"the UNet wants a label of its {classes} classes beside the text, and a request has none; "
            "take the UNet of a text-to-image model"
        )
    known = ", ".join(f"{latent_channels + more(latent_channels)} for {task}" for task, more in FURTHER.items())
    raise UserError(
        f"the UNet goes from {in_channels} to {out_channels} channels, the autoencoder's latents have "
        f"{latent_channels}; with those it takes {known}; take both from one model"
    )


def find_label_task(in_channels: int, out_channels: int, latent_channels: int, classes: int | None) -> Task:
    """The task of a UNet with these channels that reads no words, beside a first stage with so many of its latents.

    `classes`: how many the model knows. UserError, with the numbers, for channels that it cannot have.
    """
    if classes is None and out_channels == latent_channels and in_channels == 2 * latent_channels + 1:
        return "inpainting"  # the latents of the picture without what the mask covers, and the mask (LDM, section 4.5)
    if in_channels == out_channels == latent_channels:
        return "unconditional" if classes is None else "class-to-image"
    if out_channels == latent_channels and in_channels == latent_channels + SMALL_PICTURE and classes is None:
        return "upscaling"
    raise UserError(
        f"the UNet goes from {in_channels} to {out_channels} channels, what it paints has {latent_channels} (pixels 3, "
        "latents as many as the autoencoder's); without words all of these agree, or it takes "
        f"{SMALL_PICTURE} more for a small picture, or {latent_channels + 1} more for inpainting; take both from one "
        "model"
    )
