"""LatentDiffusion: the parts of one model together (LDM, section 3), and what they must agree on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from PIL import Image
from torch import nn

from latentbrush.conditioning import Task, TextConditioner, XLTextConditioner, count_micro, find_task
from latentbrush.devices import OneAtATime
from latentbrush.diffusion import (
    SAMPLERS,
    Denoiser,
    Guidance,
    PlanConfig,
    Prediction,
    Schedule,
    Threshold,
    find_sampler,
    guided,
)
from latentbrush.errors import UserError
from latentbrush.nn import AutoencoderConfig, AutoencoderKL, Condition, TinyAutoencoder, TinyConfig, UNet
from latentbrush.origin import Origin
from latentbrush.request import MAX_SIDE

__all__ = ["Exchanged", "LatentDiffusion", "ModelDefaults"]

STABLE_DIFFUSION_PLAN: Mapping[str, Any] = {
    "spacing": "leading",
    "steps_offset": 1,
    "set_alpha_to_one": False,
}
XL_GUIDANCE = 5.0


@dataclass(frozen=True)
class ModelDefaults:
    """What a request takes where it says nothing. `width`, `height`: pixels; `guidance`: 1 is none.

    UserError for values that no request could have.
    """

    steps: int = 50
    guidance: float = 7.5
    width: int = 512
    height: int = 512

    def __post_init__(self) -> None:
        for name in ("steps", "width", "height"):
            if getattr(self, name) < 1:
                raise UserError(f"the model's default {name} is {getattr(self, name)}; choose at least 1")
        if max(self.width, self.height) > MAX_SIDE:
            raise UserError(f"the model's default size is {self.width}x{self.height}; choose at most {MAX_SIDE} a side")
        if not math.isfinite(self.guidance):
            raise UserError(f"the model's default guidance is {self.guidance}; choose a finite number")


SafetyFlags = Callable[[Sequence[Image.Image]], list[bool]]
"""Finished pictures -> which of them a safety checker flags."""


@dataclass(frozen=True)
class Exchanged:
    """The autoencoder that a model has instead of its own: as which it was asked for, and its files, if any."""

    name: str
    origin: Origin | None


class LatentDiffusion:
    """An autoencoder, a UNet and a text conditioner, with the schedule that the UNet was trained on.

    `task`: what the UNet was trained to do, as its channels tell; `micro_count`: how many numbers it takes beside
    the words, 6 in Stable Diffusion XL, 5 in its refiner, else none.
    `schedule`: None for Stable Diffusion's. `prediction`: what the UNet's output means. `sampler`: the one
    used unless a request names another; `plan_options`: fields of `PlanConfig` that hold for every sampler,
    the others keep that sampler's own defaults. `threshold`: of x0 at every call, if any.
    `defaults`: None for 50 steps (or all there are), guidance 7.5 and the size that the UNet was trained at.
    `origin`: the files it was read from, if any. UserError, with the numbers, where parts do not fit together.
    """

    def __init__(
        self,
        autoencoder: AutoencoderKL | TinyAutoencoder,
        unet: UNet,
        text: TextConditioner | XLTextConditioner,
        *,
        schedule: Schedule | None = None,
        prediction: Prediction = "epsilon",
        sampler: str = "ddim",
        plan_options: Mapping[str, Any] | None = None,
        threshold: Threshold | None = None,
        defaults: ModelDefaults | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.autoencoder, self.unet, self.text = autoencoder, unet, text
        self.exchanged: Exchanged | None = None
        self.fast_decoder: TinyAutoencoder | None = None
        self.fast_origin: Origin | None = None
        self.safety_check: SafetyFlags | None = None
        self.safety_origin: Origin | None = None
        self._waiting: OneAtATime | None = None
        self.origin = origin
        self.task = self._find_task()
        self.micro_count = count_micro(unet.config.added_width, unet.config.micro_width, text.pooled_width)
        if prediction not in get_args(Prediction):
            names = ", ".join(get_args(Prediction))
            raise UserError(f"prediction {prediction!r} is unknown; choose one of {names}")
        self.schedule = Schedule() if schedule is None else schedule
        self.prediction: Prediction = prediction
        self.sampler = sampler
        self.plan_options = dict(STABLE_DIFFUSION_PLAN if plan_options is None else plan_options)
        self.threshold = threshold
        self.plan_config()
        self.defaults = self._published_defaults() if defaults is None else defaults
        self.latent_shape(self.defaults.width, self.defaults.height)
        if self.defaults.steps > self.schedule.num_train_timesteps:
            raise UserError(
                f"the model's default steps are {self.defaults.steps}, but it was trained with "
                f"{self.schedule.num_train_timesteps}; correct latentbrush.json"
            )

    def _published_defaults(self) -> ModelDefaults:
        """Those of diffusers' pipeline for it, as far as the schedule has so many steps."""
        side = self.unet.config.sample_size * self.factor
        steps = min(ModelDefaults.steps, self.schedule.num_train_timesteps)
        xl = self.is_xl and self.task == "text-to-image"
        return ModelDefaults(
            steps=steps, guidance=XL_GUIDANCE if xl else ModelDefaults.guidance, width=side, height=side
        )

    def _find_task(self) -> Task:
        """The task, where all widths agree."""
        latent, unet, text = self.autoencoder.config.latent_channels, self.unet.config, self.text
        task = find_task(unet.in_channels, unet.out_channels, latent, unet.classes)
        if unet.context_width != text.width:
            raise UserError(
                f"the UNet reads a context of width {unet.context_width}, the text tower writes "
                f"{text.width}; take both from one model"
            )
        return task

    @property
    def is_xl(self) -> bool:
        """Is it of Stable Diffusion XL's kind: two text towers, and numbers beside the words?"""
        return isinstance(self.text, XLTextConditioner)

    @property
    def factor(self) -> int:
        """f: pixels along each side of a latent cell."""
        return self.autoencoder.config.factor

    @property
    def decoder(self) -> AutoencoderKL | TinyAutoencoder:
        """What makes pictures of latents."""
        return self.autoencoder if self.fast_decoder is None else self.fast_decoder

    def decode_fast(self, decoder: TinyAutoencoder, origin: Origin | None = None) -> LatentDiffusion:
        """Decode by a tiny autoencoder from now on, less exactly but sooner; returns the model itself.

        `origin`: the files it was read from, if any. UserError unless it reads the latents of this model.
        """
        self._check_latents(decoder.config, "fast decoder", "take the tiny autoencoder that was made for this model")
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
        self._check_latents(autoencoder.config, "autoencoder", remedy)
        new, own = autoencoder.config, self.autoencoder.config
        if (
            isinstance(new, AutoencoderConfig)
            and isinstance(own, AutoencoderConfig)
            and not math.isclose(new.scaling_factor, own.scaling_factor, rel_tol=1e-3)
        ):
            raise UserError(
                f"the autoencoder scales its latents by {new.scaling_factor}, the model's own by "
                f"{own.scaling_factor}; {remedy}"
            )
        waiting = self._waiting
        if waiting is not None:
            self.to("cpu")
        self.autoencoder = autoencoder.to(device=self.device, dtype=self.dtype).eval()
        self.exchanged = Exchanged(name, origin)
        return self if waiting is None else self.one_part_on(waiting.device)

    def _check_latents(self, new: AutoencoderConfig | TinyConfig, what: str, remedy: str) -> None:
        """UserError unless pictures become latents of the same shape."""
        own = self.autoencoder.config
        for side, found, needed in (
            ("latent channels", new.latent_channels, own.latent_channels),
            ("picture channels", new.in_channels, own.in_channels),
            ("pixels a latent cell", new.factor, own.factor),
        ):
            if found != needed:
                raise UserError(f"the {what} has {found} {side}, the model's autoencoder {needed}; {remedy}")

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
        """Move all networks, in place; returns the model itself."""
        if device is not None and self._waiting is not None:
            self._waiting.release()
            self._waiting = None
        for part in (self.autoencoder, self.unet, self.text):
            part.to(device=device, dtype=dtype)
        if self.fast_decoder is not None:
            self.fast_decoder.to(device=device, dtype=dtype)
        return self

    def one_part_on(self, device: torch.device | str) -> LatentDiffusion:
        """Low memory: compute on `device`, with one network there at a time; returns the model itself.

        A UNet is there for a whole batch; pictures are those of `to(device)`, bit for bit.
        """
        self.to("cpu")
        autoencoder = self.autoencoder
        doors: list[nn.Module | None] = [autoencoder.encoder, autoencoder.decoder]
        if isinstance(autoencoder, AutoencoderKL):
            doors.append(autoencoder.post_quant_conv)
        parts: dict[nn.Module, list[nn.Module]] = {
            self.text: [self.text],
            self.unet: [self.unet],
            autoencoder: [door for door in doors if door is not None],
        }
        self._waiting = OneAtATime(torch.device(device), parts)
        if self.fast_decoder is not None:
            self.fast_decoder.to(device)  # too small to wait
        return self

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(c, h, w) of the latents of a `width` x `height` picture; UserError unless f divides both."""
        f = self.factor
        if width < 1 or height < 1 or width % f or height % f:
            near = "x".join(str(max(f, (side + f // 2) // f * f)) for side in (width, height))
            raise UserError(
                f"size {width}x{height} does not fit: both sides must be multiples of {f} pixels; the nearest is {near}"
            )
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

    def denoiser(self, condition: Condition, guidance: Sequence[Guidance] = ()) -> Denoiser:
        """The UNet under a condition of B and any methods of guidance, as samplers call it."""
        return Denoiser(guided(self.unet, condition, guidance), self.prediction, threshold=self.threshold)
