"""What a model was asked to do, written down."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from latentbrush.diffusion import Denoised, Level


@dataclass
class Record:
    """What a model was asked and what was drawn for it, in order.

    `inputs`: x of every call of the UNet; `prompts`: of every call of the text tower; `draws`: of noise, with
    their seeds; `latents` and `levels`: what every `on_step` was given.
    """

    inputs: list[Tensor] = field(default_factory=list)
    prompts: list[list[str]] = field(default_factory=list)
    draws: list[tuple[list[int], Tensor]] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)

    def on_step(self, x: Tensor, level: Level, denoised: Denoised) -> Tensor:
        self.latents.append(x.clone())
        self.levels.append(level)
        return x

    def of_seed(self, seed: int) -> list[Tensor]:
        """The draws (c, h, w) of one picture, in order."""
        return [draw[seeds.index(seed)] for seeds, draw in self.draws if seed in seeds]

    def batches(self) -> list[int]:
        return [len(x) for x in self.inputs]
