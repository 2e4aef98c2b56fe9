"""Text-to-image: a UNet in the latents of a finished first stage, its text tower trained jointly (LDM, 3.3)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from latentbrush.conditioning import TextConditioner
from latentbrush.data.emoji import EmojiRecord, caption, family_weights
from latentbrush.data.folder import ImageFolder
from latentbrush.data.pixels import to_signed
from latentbrush.devices import CPU, autocast
from latentbrush.diffusion import diffusion_loss, shifted_timesteps
from latentbrush.errors import NotFiniteError, UserError
from latentbrush.evaluation.nearest import nearest_accuracy
from latentbrush.formats import load_autoencoder, save_model
from latentbrush.model import LatentDiffusion, ModelDefaults
from latentbrush.nn import AutoencoderKL, CLIPTextModel, PixelConfig, Pixels, Posterior, UNet, posterior_of
from latentbrush.pipeline import paint, resolve
from latentbrush.request import ImageRequest
from latentbrush.training.draws import fingerprint, numpy_draws, torch_draws, torch_seed
from latentbrush.training.finish import save_half
from latentbrush.training.grid import picture_grid
from latentbrush.training.optimiser import decayed_groups
from latentbrush.training.recipe import TextToImageRecipe
from latentbrush.training.vocabulary import caption_tokenizer, pretrained_text

__all__ = ["TextToImageStage"]

SHOWN = 12
"""Held-out captions in a sample grid."""


class TextToImageStage:
    """Learns to predict from noisy latents and captions; held-out combinations are what `validate` measures."""

    def __init__(self, recipe: TextToImageRecipe, device: torch.device = CPU) -> None:
        self.recipe = recipe
        folder = ImageFolder(recipe.data.path)
        train, held_out = folder.select("train"), folder.select("validation")
        self.records = [EmojiRecord.parse(record) for record in train.records]
        self.weights = family_weights(self.records, recipe.data.family_exponent)
        self.held_out = [EmojiRecord.parse(record) for record in held_out.records]
        autoencoder = _first_stage(recipe).to(device)
        if recipe.data.size % autoencoder.config.factor:
            raise UserError(
                f"data.size {recipe.data.size} is not a multiple of {autoencoder.config.factor}, "
                f"the factor of the first stage {recipe.first_stage}"
            )
        self.all_pictures = torch.cat([held_out.load(recipe.data.size), folder.load(recipe.data.size)])
        self.cache = _posterior(autoencoder, train.load(recipe.data.size), device)
        self.held_out_cache = _posterior(autoencoder, held_out.load(recipe.data.size), device)
        torch.manual_seed(torch_seed(recipe.seed, 0, "initialisation"))
        self.text = _text(self.records, recipe)
        self.model = LatentDiffusion(
            autoencoder=autoencoder,
            unet=UNet(recipe.unet),
            text=self.text,
            schedule=recipe.schedule,
            prediction=recipe.prediction,
            sampler="ddim",
            plan_options={"spacing": "trailing"},
            clip=1.0 if isinstance(autoencoder, Pixels) else None,
            defaults=ModelDefaults(
                steps=recipe.defaults.steps,
                guidance=recipe.defaults.guidance,
                width=recipe.data.size,
                height=recipe.data.size,
            ),
        ).to(device)
        self.trained = nn.ModuleDict({"unet": self.model.unet, "text": self.text.encoder})

    @property
    def module(self) -> nn.Module:
        return self.trained

    def parameter_groups(self) -> list[dict[str, Any]]:
        decay = self.recipe.optimiser.weight_decay
        return [
            *decayed_groups(self.model.unet, decay),
            *decayed_groups(self.text.encoder, decay, self.recipe.text_lr_scale),
        ]

    def loss(self, step: int) -> Tensor:
        rng = numpy_draws(self.recipe.seed, step, "batch")
        chosen = rng.choice(len(self.records), self.recipe.batch, p=self.weights)
        prompts = [self._prompt(self.records[i], rng) for i in chosen]
        # Stratified: marginally uniform, but a batch covers all levels (Kingma et al. 2021, VDM, appendix I.1).
        uniform = torch.from_numpy((np.arange(self.recipe.batch) + rng.random()) / self.recipe.batch)
        t = shifted_timesteps(uniform, self.recipe.schedule.num_train_timesteps, self.recipe.timestep_shift)
        draws = torch_draws(self.recipe.seed, step, "noise")
        z = _select(self.cache, torch.from_numpy(chosen)).sample(draws)
        return self._losses(z, t, torch.randn(z.shape, generator=draws), prompts).mean()

    def _prompt(self, record: EmojiRecord, rng: np.random.Generator) -> str:
        words = caption(record, rng, self.recipe.data.captions)
        return "" if rng.random() < self.recipe.caption_dropout else words

    def _losses(self, z: Tensor, t: Tensor, noise: Tensor, prompts: list[str]) -> Tensor:
        device = self.model.device
        z, noise, level = z.to(device), noise.to(device), self.recipe.schedule.level(t, device=device)
        with autocast(device, self.recipe.precision):
            return diffusion_loss(
                self.model.denoiser(self.model.text(prompts)),
                z,
                noise,
                level,
                weighting=self.recipe.weighting,
                gamma=self.recipe.min_snr_gamma,
                floor=self.recipe.min_snr_floor,
            )

    def validate(self) -> dict[str, float]:
        """Loss on held-out names with fixed noise, and how often one's painting is nearest to its original.

        NaN where no painting can be made.
        """
        names = [record.name for record in self.held_out]
        draws = torch_draws(self.recipe.seed, 0, "validation")
        z = self.held_out_cache.mode()
        t = (torch.arange(len(names)) * self.recipe.schedule.num_train_timesteps) // len(names)
        loss = self._losses(z, t, torch.randn(z.shape, generator=draws), names).mean()
        try:
            right = nearest_accuracy(self._paint(names).cpu(), self.all_pictures, torch.arange(len(names)))
        except NotFiniteError:  # training may yet mend it
            right = math.nan
        return {"validation_loss": float(loss), "nearest": right}

    def samples(self) -> Image.Image:
        """Above held-out originals, below what their names give."""
        chosen = slice(0, None, max(1, len(self.held_out) // SHOWN))
        names = [record.name for record in self.held_out[chosen]][:SHOWN]
        originals = to_signed(self.all_pictures[: len(self.held_out)][chosen][:SHOWN])
        return picture_grid(torch.cat([originals, self._paint(names).cpu()]), columns=len(names))

    def _paint(self, prompts: list[str]) -> Tensor:
        request = resolve(self.model, ImageRequest(prompt=""))
        return paint(self.model, prompts, list(range(len(prompts))), request)

    def fingerprint(self) -> str:
        # Not the latents, which another device rounds otherwise: what they are made of.
        first_stage = [weight.detach().cpu().numpy() for weight in self.model.autoencoder.parameters()]
        records = [record.to_json() for record in self.records]
        facts = [self.text.tokenizer.vocab, records]
        return fingerprint(self.all_pictures.numpy(), *first_stage, facts=facts)

    def finish(self, directory: Path) -> str | None:
        if isinstance(self.model.autoencoder, Pixels):
            return "a model of words in pixels has no folder to be saved in; its weights stay in checkpoint.pt"
        return save_half(lambda dtype: save_model(self.model, directory, dtype=dtype, overwrite=True))


def _first_stage(recipe: TextToImageRecipe) -> AutoencoderKL | Pixels:
    """What the recipe trains on, with its weights. UserError where it is not there, or has vector quantisation."""
    folder = recipe.first_stage
    if folder is None:
        return Pixels(PixelConfig(sample_size=recipe.data.size))
    if not folder.is_dir():
        raise UserError(f"the first stage {folder} is not there; train it first, by a recipe of its own")
    if (folder / "vqvae").is_dir():
        raise UserError(
            f"the first stage {folder} is one with vector quantisation, and no pipeline with a CLIP text tower has a "
            "place for such; train one with KL"
        )
    return load_autoencoder(folder / "vae")


def _text(records: list[EmojiRecord], recipe: TextToImageRecipe) -> TextConditioner:
    """The text tower as the recipe describes it: new, or with what a contrastive run has taught it."""
    encoder = CLIPTextModel(recipe.text)
    if recipe.text_from is None:
        return TextConditioner(caption_tokenizer(records, recipe.tokenizer), encoder)
    tokenizer, trained = pretrained_text(recipe.text_from, recipe.text, recipe.tokenizer)
    encoder.load_state_dict(trained)
    return TextConditioner(tokenizer, encoder)


@torch.inference_mode()
def _posterior(autoencoder: AutoencoderKL | Pixels, pictures: Tensor, device: torch.device) -> Posterior:
    """The cached latents of (N, 3, H, W) uint8."""
    parts = [posterior_of(autoencoder, to_signed(part).to(device)) for part in torch.split(pictures, 256)]
    return Posterior(torch.cat([part.mean for part in parts]).cpu(), torch.cat([part.logvar for part in parts]).cpu())


def _select(posterior: Posterior, index: Tensor) -> Posterior:
    return Posterior(posterior.mean[index], posterior.logvar[index])
