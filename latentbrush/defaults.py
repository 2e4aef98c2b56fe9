"""What a request takes where it says nothing: a model's own defaults, or those of diffusers' pipeline for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from latentbrush.conditioning import LabelConditioner, Task, TextConditioner, XLTextConditioner
from latentbrush.errors import UserError
from latentbrush.request import MAX_SIDE

__all__ = ["ModelDefaults", "published_defaults"]

XL_GUIDANCE = 5.0
UPSCALER_STEPS, UPSCALER_GUIDANCE, SUPER_RESOLUTION_STEPS = 75, 9.0, 100
"""Of Stable Diffusion's x4 upscaler and of LDM's model, as diffusers' pipelines have them."""


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


def published_defaults(
    task: Task, text: TextConditioner | XLTextConditioner | LabelConditioner, sampler: str, *, side: int, most: int
) -> ModelDefaults:
    """Those of diffusers' pipeline for a model of this task, which is told what `text` reads.

    `side`: of the pictures that it was trained on, in pixels; `most`: the steps of its schedule.
    """
    steps, guidance = ModelDefaults.steps, ModelDefaults.guidance
    if isinstance(text, LabelConditioner):
        upscaling = SUPER_RESOLUTION_STEPS if task == "upscaling" else steps
        # DDPM has as many steps as it was trained with; only samplers after it take fewer.
        steps, guidance = most if sampler == "ddpm" else upscaling, 1.0
    elif task == "upscaling":
        steps, guidance = UPSCALER_STEPS, UPSCALER_GUIDANCE
    elif isinstance(text, TextConditioner) and text.reads_bert:
        guidance = 1.0
    elif isinstance(text, XLTextConditioner) and task == "text-to-image":
        guidance = XL_GUIDANCE
    return ModelDefaults(steps=min(steps, most), guidance=guidance, width=side, height=side)
