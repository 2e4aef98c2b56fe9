"""LatentDiffusion: the parts of one model together (LDM, section 3), and what they must agree on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from PIL import Image
from torch import nn

from latentbrush.conditioning import (
    Augmentation,
    LabelConditioner,
    TextConditioner,
    XLTextConditioner,
    count_micro,
)
from latentbrush.defaults import ModelDefaults, published_defaults
from latentbrush.devices import OneAtATime, precision
from latentbrush.diffusion import (
    SAMPLERS,
    Denoiser,
    Guidance,
    Limits,
    PlanConfig,
    Prediction,
    Schedule,
    Threshold,
    find_sampler,
    guided,
)
from latentbrush.errors import UserError, short
from latentbrush.fitting import augmentation_of, check_latents, check_scales, task_of
from latentbrush.nn import AutoencoderKL, Condition, FirstStage, TinyAutoencoder, UNet, UNet2D
from latentbrush.origin import Origin

__all__ = ["Exchanged", "LatentDiffusion", "ModelDefaults"]

STABLE_DIFFUSION_PLAN: Mapping[str, Any] = {
    "spacing": "leading",
    "steps_offset": 1,
    "set_alpha_to_one": False,
}

SafetyFlags = Callable[[Sequence[Image.Image]], list[bool]]
"""Finished pictures -> which of them a safety checker flags."""


@dataclass(frozen=True)
class Exchanged:
    """The autoencoder that a model has instead of its own: as which it was asked for, and its files, if any."""

    name: str
    origin: Origin | None


class LatentDiffusion:
    """A first stage, a UNet and a conditioner, with the schedule that the UNet was trained on.

    `text`: the conditioner, which reads words, or labels alone. `task`: what the UNet was trained to do, as its
    channels tell; `micro_count`: how many numbers it takes beside the words, 6 in Stable Diffusion XL, 5 in its
    refiner, else none.
    `schedule`: None for Stable Diffusion's. `prediction`: what the UNet's output means. `sampler`: the one
    used unless a request names another; `plan_options`: fields of `PlanConfig` that hold for every sampler,
    the others keep that sampler's own defaults. `threshold`: of x0 at every call, if any; `clip`: instead, to how far
    from 0, for models of pixels and others whose files say so. `limits`: of each other sampler, for these belong to
    the scheduler that a file describes; None for the same.
    `augmentation`: of an upscaler that reads words alone, how its small pictures are noised; None for that of Stable
    Diffusion's.
    `defaults`: None for those of diffusers' pipeline, 50 steps (or all there are) and guidance 7.5 for most, none
    without words, and the size that the UNet was trained at.
    `origin`: the files it was read from, if any. UserError, with the numbers, where parts do not fit together.
    """

    def __init__(
        self,
        autoencoder: FirstStage,
        unet: UNet | UNet2D,
        text: TextConditioner | XLTextConditioner | LabelConditioner,
        *,
        schedule: Schedule | None = None,
        prediction: Prediction = "epsilon",
        sampler: str = "ddim",
        plan_options: Mapping[str, Any] | None = None,
        threshold: Threshold | None = None,
        augmentation: Augmentation | None = None,
        clip: float | None = None,
        limits: Callable[[str], Limits] | None = None,
        defaults: ModelDefaults | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.autoencoder, self.unet, self.text = autoencoder, unet, text
        self.exchanged: Exchanged | None = None
        self.fast_decoder: TinyAutoencoder | None = None
        self.fast_origin: Origin | None = None
        self.safety_check: SafetyFlags | None = None
        self.safety_origin: Origin | None = None
        self.refiner: LatentDiffusion | None = None
        self.refiner_name: str | None = None
        self._waiting: OneAtATime | None = None
        self.origin = origin
        self.task = task_of(autoencoder, unet, text)
        self.augmentation = augmentation_of(augmentation, self.task, unet, text)
        self.micro_count = count_micro(unet.config.added_width, unet.config.micro_width, text.pooled_width)
        if prediction not in get_args(Prediction):
            names = ", ".join(get_args(Prediction))
            raise UserError(f"prediction {prediction!r} is unknown; choose one of {names}")
        self.schedule = Schedule() if schedule is None else schedule
        self.prediction: Prediction = prediction
        self.sampler = sampler
        self.plan_options = dict(STABLE_DIFFUSION_PLAN if plan_options is None else plan_options)
        self.threshold, self.clip, self._limits = threshold, clip, limits
        self.plan_config()
        side, most = unet.config.sample_size * self.factor, self.schedule.num_train_timesteps
        self.defaults = defaults or published_defaults(self.task, text, sampler, side=side, most=most)
        self.latent_shape(self.defaults.width, self.defaults.height)
        if self.defaults.steps > most:
            raise UserError(
                f"the model's default steps are {self.defaults.steps}, but it was trained with {most}; "
                "correct latentbrush.json"
            )

    @property
    def reads_bert(self) -> bool:
        """Is it LDM's own text-to-image model, with a tower trained together with the UNet?"""
        return isinstance(self.text, TextConditioner) and self.text.reads_bert

    @property
    def reads_words(self) -> bool:
        """Is it told words? Else the number of a class, or nothing."""
        return not isinstance(self.text, LabelConditioner)

    def said(self, prompt: str, label: int | None) -> str | int | None:
        """What its conditioner is told for one picture. UserError, in words of a request, where that is not it."""
        if not isinstance(self.text, LabelConditioner):
            if label is not None:
                raise UserError(f"the label is {label}, but the model reads words and knows no classes; leave it out")
            return prompt
        if prompt:
            raise UserError(f"the prompt is {short(prompt)}, but the model reads no words; leave it out or empty")
        self.text.check(label)
        return label

    @property
    def is_xl(self) -> bool:
        """Is it of Stable Diffusion XL's kind: two text towers, and numbers beside the words?"""
        return isinstance(self.text, XLTextConditioner)

    @property
    def factor(self) -> int:
        """f: pixels along each side of a latent cell."""
        return self.autoencoder.config.factor

    @property
    def decoder(self) -> FirstStage:
        """What makes pictures of latents."""
        return self.autoencoder if self.fast_decoder is None else self.fast_decoder

    def decode_fast(self, decoder: TinyAutoencoder, origin: Origin | None = None) -> LatentDiffusion:
        """Decode by a tiny autoencoder from now on, less exactly but sooner; returns the model itself.

        `origin`: the files it was read from, if any. UserError unless it reads the latents of this model.
        """
        remedy = "take the tiny autoencoder that was made for this model"
        check_latents(decoder.config, self.autoencoder.config, "fast decoder", remedy)
        self.fast_decoder, self.fast_origin = decoder.to(device=self.device, dtype=self.dtype), origin
        return self

    def exchange_autoencoder(
        self, autoencoder: AutoencoderKL | TinyAutoencoder, name: str, origin: Origin | None = None
    ) -> LatentDiffusion:
        """Encode and decode by another autoencoder from now on; returns the model itself.

        `name`: as which requests and pictures call it; `origin`: the files it was read from. UserError, with the
        numbers, where its latents are not those of this model.
        """
        remedy = "take one that was made for the same latents"
        check_latents(autoencoder.config, self.autoencoder.config, "autoencoder", remedy)
        check_scales(autoencoder.config, self.autoencoder.config, "autoencoder", remedy)
        waiting = self._waiting
        if waiting is not None:
            self.to("cpu")
        self.autoencoder = autoencoder.to(device=self.device, dtype=self.dtype).eval()
        self.exchanged = Exchanged(name, origin)
        return self if waiting is None else self.one_part_on(waiting.device)

    def refine_by(self, refiner: LatentDiffusion, name: str | None = None) -> LatentDiffusion:
        """Let another model paint the last levels of requests that say so (`stages`); returns the model itself.

        `name`: as which requests call it; None for any. It moves to the model's device, and has one part there at a
        time where the model has.
        UserError unless both paint from words alone, in the same latents, and are loaded as the same type; and for a
        refiner with another decoder than its own, which is the model's to have.
        """
        if refiner is self:
            raise UserError("the refiner is the model itself; load it once more, or leave it out")
        own, its = self.autoencoder.config, refiner.autoencoder.config
        remedy = "take the refiner that was made for this model"
        for what, found, needed in (
            ("task", refiner.task, self.task),
            ("latent channels", its.latent_channels, own.latent_channels),
            ("pixels a latent cell", its.factor, own.factor),
            ("kind", *(f"{'' if it.micro_count else 'other than '}Stable Diffusion XL" for it in (refiner, self))),
            ("dtype", precision(refiner.dtype), precision(self.dtype)),
        ):
            if found != needed:
                raise UserError(
                    f"the refiner does not fit the model: its {what} is {found}, the model's {needed}; {remedy}"
                )
        check_scales(its, own, "refiner", remedy)
        if refiner.exchanged is not None or refiner.fast_decoder is not None:
            raise UserError(
                "the refiner has another autoencoder or a fast decoder, and pictures would not say so; "
                "give that to the model instead"
            )
        if self.is_low_memory and not (refiner.is_low_memory and refiner.device == self.device):
            refiner.one_part_on(self.device)
        elif not self.is_low_memory:
            refiner.to(self.device)
        self.refiner, self.refiner_name = refiner, name
        return self

    def rest(self) -> None:
        """With low memory: leave the device to another model."""
        if self._waiting is not None:
            self._waiting.rest()

    @property
    def is_low_memory(self) -> bool:
        """Are parts on the device only while they work?"""
        return self._waiting is not None

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.unet.conv_in.weight.device if self._waiting is None else self._waiting.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.conv_in.weight.dtype

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> LatentDiffusion:
        """Move all networks, the refiner's too, in place; returns the model itself."""
        if device is not None and self._waiting is not None:
            self._waiting.release()
            self._waiting = None
        for part in (self.autoencoder, self.unet, self.text):
            part.to(device=device, dtype=dtype)
        if self.fast_decoder is not None:
            self.fast_decoder.to(device=device, dtype=dtype)
        if self.refiner is not None:
            self.refiner.to(device=device, dtype=dtype)
        return self

    def one_part_on(self, device: torch.device | str) -> LatentDiffusion:
        """Low memory: compute on `device`, with one network there at a time; returns the model itself.

        A UNet is there for a whole batch; pictures are those of `to(device)`, bit for bit.
        """
        self.to("cpu")
        parts: dict[nn.Module, list[nn.Module]] = {
            self.text: [self.text],
            self.unet: [self.unet],
            self.autoencoder: self.autoencoder.doors,
        }
        self._waiting = OneAtATime(torch.device(device), parts)
        if self.fast_decoder is not None:
            self.fast_decoder.to(device)  # too small to wait
        if self.refiner is not None:
            self.refiner.one_part_on(device)
        return self

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(c, h, w) of the latents of a `width` x `height` picture; UserError unless f divides both, and it is not
        smaller than the UNet takes."""
        f = self.factor
        if width < 1 or height < 1 or width % f or height % f:
            near = "x".join(str(max(f, (side + f // 2) // f * f)) for side in (width, height))
            raise UserError(
                f"size {width}x{height} does not fit: both sides must be multiples of {f} pixels; the nearest is {near}"
            )
        least = f * self.unet.config.least_side
        if min(width, height) < least:
            raise UserError(f"size {width}x{height} is too small for the UNet; choose at least {least} pixels a side")
        return self.autoencoder.config.latent_channels, height // f, width // f

    def plan_config(self, sampler: str | None = None, sigmas: str | None = None) -> PlanConfig:
        """The plan options for `sampler` and a path of `sigmas` (the model's own if None).

        UserError for an unknown one, and for a path of a sampler that has none.
        """
        name = self.sampler if sampler is None else sampler
        options = dict(self.plan_options)
        if name != "ddim":
            options.pop("eta", None)  # an option that other samplers refuse
        if name != self.sampler:  # the order is part of a solver's name
            options = {key: value for key, value in options.items() if key not in ("solver_order", "solver_type")}
        chosen = find_sampler(name)
        if sigmas is not None:
            if sigmas != "spaced" and not chosen.paths:
                able = ", ".join(other for other, row in SAMPLERS.items() if row.paths)
                raise UserError(f"sigmas {sigmas!r} for {name}, which has no path of sigmas; choose one of {able}")
            options["sigmas"] = sigmas
        return replace(chosen.defaults, **options)

    def limits_of(self, sampler: str | None = None) -> Limits:
        """What `sampler`, None for the model's own, does to x0: as if the model were read for it. UserError for what
        its files say wrongly of that."""
        if self._limits is None or sampler in (None, self.sampler):
            return Limits(self.threshold, self.clip)
        return self._limits(sampler)

    def denoiser(self, condition: Condition, guidance: Sequence[Guidance] = (), sampler: str | None = None) -> Denoiser:
        """The UNet under a condition of B and any methods of guidance, as samplers, or this one, call it."""
        limits = self.limits_of(sampler)
        return Denoiser(guided(self.unet, condition, guidance), self.prediction, limits.clip, limits.threshold)
