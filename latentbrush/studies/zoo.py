"""The autoencoder zoo of LDM (Rombach et al. 2022, table 8): sixteen first stages, at the paper's scale and at ours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from latentbrush.errors import UserError, short
from latentbrush.nn import AutoencoderKL, VQAutoencoder, posterior_of
from latentbrush.training import AutoencoderRecipe, FirstStageRecipe, VQAutoencoderRecipe

__all__ = [
    "ZOO",
    "PaperFigures",
    "ZooSetting",
    "network_of",
    "paper_recipe",
    "settings_named",
    "training_flops",
    "zoo_recipe",
]

STEPS = 2000
KL = 1e-6
"""The paper's, of sums over a picture; a recipe's weighs means."""


@dataclass(frozen=True)
class PaperFigures:
    """Trained on OpenImages, measured on ImageNet's validation set at 256x256."""

    rfid: float
    psnr: float
    psim: float
    ssim: float


@dataclass(frozen=True)
class ZooSetting:
    """A row of the table. `codes`: the codebook's size, None with KL; `channels`: c of the latents (B, c, H/f, W/f)."""

    factor: int
    regulariser: Literal["kl", "vq"]
    codes: int | None
    channels: int
    paper: PaperFigures
    attention: bool = True

    @property
    def name(self) -> str:
        codes = "" if self.codes is None else f"-n{self.codes}"
        return f"{self.regulariser}-f{self.factor}{codes}-c{self.channels}{'' if self.attention else '-noattn'}"

    @property
    def emoji_codes(self) -> int | None:
        """Codes of 9 bits for the paper's 14, and all others' bits by the same ratio, rounded: 512, 256, 128, 32, 16.

        There are a hundred times fewer cells to learn from than one of 16384 codes needs. So every rate in bits a
        pixel shrinks alike, and the settings stay in their order by it; with all codebooks divided by one number, or
        only the large ones, they would not.
        """
        return None if self.codes is None else int(2 ** round(math.log2(self.codes) * 9 / 14))

    @property
    def multipliers(self) -> tuple[int, ...]:
        """Of the width at each level, as published; f = 2 was not, its are those of f = 4 without the last."""
        return {
            ("kl", 8): (1, 2, 4, 4),
            ("vq", 8): (1, 2, 2, 4),
        }.get(
            (self.regulariser, self.factor),
            {2: (1, 2), 4: (1, 2, 4), 16: (1, 1, 2, 2, 4), 32: (1, 1, 2, 2, 4, 4)}.get(self.factor, ()),
        )


def _vq(factor: int, codes: int, channels: int, *paper: float, attention: bool = True) -> ZooSetting:
    return ZooSetting(factor, "vq", codes, channels, PaperFigures(*paper), attention)


def _kl(factor: int, channels: int, *paper: float) -> ZooSetting:
    return ZooSetting(factor, "kl", None, channels, PaperFigures(*paper))


ZOO = (
    _vq(32, 16384, 16, 31.83, 17.45, 2.58, 0.41),
    _vq(16, 16384, 8, 5.15, 20.83, 1.73, 0.54),
    _vq(8, 16384, 4, 1.14, 23.07, 1.17, 0.65),
    _vq(8, 256, 4, 1.49, 22.35, 1.26, 0.62),
    _vq(4, 8192, 3, 0.58, 27.43, 0.53, 0.82),
    _vq(4, 8192, 3, 1.06, 25.21, 0.72, 0.76, attention=False),
    _vq(4, 256, 3, 0.47, 26.43, 0.62, 0.80),
    _vq(2, 2048, 2, 0.16, 30.85, 0.27, 0.91),
    _vq(2, 64, 2, 0.40, 29.13, 0.38, 0.90),
    _kl(32, 64, 2.04, 22.27, 1.41, 0.61),
    _kl(32, 16, 7.3, 20.38, 1.88, 0.53),
    _kl(16, 16, 0.87, 24.08, 1.07, 0.68),
    _kl(16, 8, 2.63, 21.94, 1.49, 0.59),
    _kl(8, 4, 0.90, 24.19, 1.02, 0.69),
    _kl(4, 3, 0.27, 27.53, 0.55, 0.82),
    _kl(2, 2, 0.086, 32.47, 0.20, 0.93),
)
"""In the paper's order."""


def settings_named(text: str) -> tuple[ZooSetting, ...]:
    """Those of the names between commas, in the paper's order. UserError for a name that is none."""
    names = {name.strip() for name in text.split(",")}
    known = {setting.name for setting in ZOO}
    if names - known:
        raise UserError(f"{short(sorted(names - known)[0])} is no setting; choose of {', '.join(sorted(known))}")
    return tuple(setting for setting in ZOO if setting.name in names)


def zoo_recipe(setting: ZooSetting, data: Path, *, steps: int = STEPS, seed: int = 0) -> FirstStageRecipe:
    """A row at 32x32 pixels of the emoji world: an eighth of the published width, one residual block a level for two.

    Data, loss, batch and steps are the same for all, and there is neither adversary nor perceptual term. The widths
    make the settings alike in time and not in parameters (0.16 to 1.2 million): at f = 2 all of them stand where a
    parameter costs most, and as many as at f = 8 would take four times as long.
    """
    values = _common(setting, data, steps=steps, seed=seed) | {
        "autoencoder": _autoencoder(setting, 16, setting.emoji_codes, groups=8, layers_per_block=1, sample_size=32),
        "data": {"path": data, "size": 32},
        "gradient": 0.5,
        "augment": 0.1,
        "optimiser": {"lr": 2e-3, "warmup": 100},
        "batch": 32,
        "ema": 0.998,
        "validate_every": max(1, steps // 4),
        "checkpoint_every": max(1, steps // 4),
    }
    return _recipe(setting, values)


def paper_recipe(setting: ZooSetting, data: Path, *, perceptual_from: str | None = None) -> FirstStageRecipe:
    """A row at the paper's scale, 256x256 pixels: published widths, codes, KL weight and rate (4.5e-6 a picture of the
    batch), as far as the published configurations say; the steps are those before the VQ models' adversary begins.

    `data`: a folder of large pictures, which for now must say of itself what an emoji world says. Three things are not
    the paper's: there is no adversary; the perceptual term, where a CLIP is named, is not LPIPS;
    and attention lies in the middle only, where f = 16, f = 32 and VQ at f = 8 have it in their deepest levels, too.
    """
    batch = 12
    values = _common(setting, data, steps=250_000, seed=0) | {
        "autoencoder": _autoencoder(setting, 128, setting.codes, groups=32, layers_per_block=2, sample_size=256),
        "data": {"path": data, "size": 256},
        "gradient": 0.0,
        "augment": 0.5,
        "optimiser": {"lr": 4.5e-6 * batch, "betas": [0.5, 0.9], "decay": "constant"},
        "batch": batch,
        "ema": 0.9999,
        "precision": "bfloat16",
        "validate_every": 10_000,
        "checkpoint_every": 10_000,
    }
    if perceptual_from is not None:
        values |= {"perceptual": 1.0, "perceptual_from": perceptual_from}
    return _recipe(setting, values)


def _autoencoder(setting: ZooSetting, width: int, codes: int | None, **others: Any) -> dict[str, Any]:
    return {
        "channels": [width * multiplier for multiplier in setting.multipliers],
        "latent_channels": setting.channels,
        "mid_attention": setting.attention,
        "scaling_factor": 1.0,
        **({} if codes is None else {"codebook_size": codes}),
        **others,
    }


def _common(setting: ZooSetting, data: Path, *, steps: int, seed: int) -> dict[str, Any]:
    values: dict[str, Any] = {"stage": "autoencoder", "regulariser": setting.regulariser, "steps": steps, "seed": seed}
    if setting.regulariser == "kl":
        values["kl"] = KL * setting.channels / (3 * setting.factor**2)  # latent numbers for each of a picture's
    return values


def _recipe(setting: ZooSetting, values: dict[str, Any]) -> FirstStageRecipe:
    kind = AutoencoderRecipe if setting.regulariser == "kl" else VQAutoencoderRecipe
    return kind.model_validate(values)


def network_of(recipe: FirstStageRecipe) -> AutoencoderKL | VQAutoencoder:
    """What the recipe trains, not yet trained."""
    if isinstance(recipe, VQAutoencoderRecipe):
        return VQAutoencoder(recipe.autoencoder)
    return AutoencoderKL(recipe.autoencoder)


def training_flops(recipe: FirstStageRecipe) -> float:
    """Of the networks in the whole run, backward at twice forward; what losses and optimiser take is left out."""
    with torch.device("meta"):
        network = network_of(recipe)
        x = torch.zeros(1, 3, recipe.data.size, recipe.data.size)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network.decode(posterior_of(network, x).mode())
    return 3.0 * float(counter.get_total_flops()) * recipe.batch * recipe.steps
