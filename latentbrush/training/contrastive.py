"""CLIP on the pairs of pictures and captions (Radford et al. 2021, section 2.3): which belongs to which?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from latentbrush.data.emoji import EmojiRecord, caption, family_weights
from latentbrush.data.folder import ImageFolder
from latentbrush.devices import CPU, autocast
from latentbrush.evaluation import retrieval_accuracy
from latentbrush.formats import SIGNED, CLIPParts, save_clip
from latentbrush.nn import CLIPConfig, CLIPModel
from latentbrush.training.draws import fingerprint, numpy_draws, torch_seed
from latentbrush.training.finish import save_half
from latentbrush.training.matrix import similarity_sheet
from latentbrush.training.optimiser import decayed_groups
from latentbrush.training.recipe import ContrastiveRecipe
from latentbrush.training.vocabulary import caption_tokenizer

__all__ = ["MAX_LOGIT_SCALE", "ContrastiveStage", "contrastive_loss"]

SHOWN = 12
"""Held-out pairs in a sample sheet."""
MAX_LOGIT_SCALE = math.log(100.0)
"""Logits are never scaled by more than 100: beyond it training becomes unstable (section 2.5)."""


class ContrastiveStage:
    """Learns a space in which a caption is nearest to its picture; held-out combinations are not seen."""

    def __init__(self, recipe: ContrastiveRecipe, device: torch.device = CPU) -> None:
        self.recipe, self.device = recipe, device
        folder = ImageFolder(recipe.data.path)
        train, held_out = folder.select("train"), folder.select("validation")
        self.records = [EmojiRecord.parse(record) for record in train.records]
        self.weights = family_weights(self.records, recipe.data.family_exponent)
        self.held_out = [EmojiRecord.parse(record) for record in held_out.records]
        self.pictures = train.load(recipe.data.size)  # (N, 3, s, s) uint8
        self.held_out_pictures = held_out.load(recipe.data.size)
        self.drawings = _distinct(self.pictures)
        # As many as are held out, so that both figures are of one task; the same ones throughout the run.
        count = min(len(self.held_out), len(self.records))
        draws = numpy_draws(recipe.seed, 0, "validation")
        self.seen = np.sort(draws.choice(len(self.records), count, replace=False))
        self.tokenizer = caption_tokenizer(self.records, recipe.tokenizer)
        torch.manual_seed(torch_seed(recipe.seed, 0, "initialisation"))
        self.network = CLIPModel(
            CLIPConfig(
                text=recipe.text,
                vision=recipe.vision,
                projection=recipe.projection,
                eos_id=self.tokenizer.eos_id,
            )
        ).to(device)

    @property
    def module(self) -> nn.Module:
        return self.network

    def parameter_groups(self) -> list[dict[str, Any]]:
        return decayed_groups(self.network, self.recipe.optimiser.weight_decay)

    def loss(self, step: int) -> Tensor:
        # What the last step moved beyond the limit is put back: there the loss has no gradient to do it.
        with torch.no_grad():
            self.network.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        chosen, captions = self._batch(step)
        text, image = self._embed(captions, self.pictures[chosen])
        same = _same(captions, self.drawings[chosen]).to(self.device)
        return contrastive_loss(text, image, self.network.logit_scale, same)

    def _batch(self, step: int) -> tuple[Tensor, list[str]]:
        """The step's pictures (B,) of indices and their captions."""
        rng = numpy_draws(self.recipe.seed, step, "batch")
        chosen = rng.choice(len(self.records), self.recipe.batch, p=self.weights)
        return torch.from_numpy(chosen), [caption(self.records[i], rng, self.recipe.data.captions) for i in chosen]

    def _tokens(self, captions: list[str]) -> Tensor:
        """Without the padding behind the longest, which no end token can see: a third of the text tower's work."""
        tokens = self.tokenizer.encode(captions)
        end = (tokens == self.tokenizer.eos_id).int().argmax(1)
        return tokens[:, : int(end.max()) + 1]

    def validate(self) -> dict[str, float]:
        """Retrieval among the held-out pairs and among as many of training, by the plain names; and the loss."""
        figures: dict[str, float] = {}
        seen = [self.records[i] for i in self.seen]
        for name, records, pictures in (
            ("validation", self.held_out, self.held_out_pictures),
            ("train", seen, self.pictures[self.seen]),
        ):
            captions = [record.name for record in records]
            text, image = self._embed(captions, pictures)
            same = _same(captions, _distinct(pictures)).to(self.device)
            found = retrieval_accuracy(text @ image.T, same)
            figures |= {f"{name}_text_to_picture": found[0], f"{name}_picture_to_text": found[1]}
            if name == "validation":
                figures["validation_loss"] = float(contrastive_loss(text, image, self.network.logit_scale, same))
        return {**figures, "scale": float(self.network.logit_scale.exp())}

    def _embed(self, captions: list[str], pictures: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(self.device, self.recipe.precision):
            text = self.network.encode_text(self._tokens(captions).to(self.device))
            image = self.network.encode_image(SIGNED(pictures).to(self.device))
        # Their contrast is taken in float32: a bfloat16 near 100, where logits lie, is off by a quarter.
        return text.float(), image.float()

    def samples(self) -> Image.Image:
        """The cosines of held-out names and pictures: the diagonal should stand out."""
        chosen = slice(0, None, max(1, len(self.held_out) // SHOWN))
        captions = [record.name for record in self.held_out[chosen]][:SHOWN]
        pictures = self.held_out_pictures[chosen][:SHOWN]
        text, image = self._embed(captions, pictures)
        return similarity_sheet((text @ image.T).cpu(), captions, pictures)

    def fingerprint(self) -> str:
        records = [record.to_json() for record in self.records]
        return fingerprint(self.pictures.numpy(), facts=[self.tokenizer.vocab, records])

    def finish(self, directory: Path) -> str | None:
        with torch.no_grad():
            self.network.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        parts = CLIPParts(self.network, self.tokenizer, SIGNED)
        return save_half(lambda dtype: save_clip(parts, directory, dtype=dtype, overwrite=True))


def contrastive_loss(text: Tensor, image: Tensor, logit_scale: Tensor, same: Tensor | None = None) -> Tensor:
    """Symmetric cross-entropy over the pairs of a batch (CLIP, figure 3), a scalar.

    `text`, `image`: (B, e) of length 1, row i of both a pair; `logit_scale`: the logarithm of the inverse
    temperature, at most ln 100 of which counts: above it has no gradient. `same`: (B, B) of truth values,
    symmetric, true where two pairs have one caption or one picture; they are no negatives of each other.

    Such entries leave the sums altogether: as negatives they would push a caption from a picture that it
    describes. Drawing others in their place would change how often each family is drawn.
    """
    logits = logit_scale.clamp(max=MAX_LOGIT_SCALE).exp() * text @ image.T  # (texts, pictures)
    if same is not None:
        others = ~torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(same & others, -torch.inf)
    pairs = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs))


def _distinct(pictures: Tensor) -> Tensor:
    """(N, ...) -> (N,): equal numbers for equal pixels; some emoji are drawn alike."""
    numbers: Tensor = torch.unique(pictures.flatten(1), dim=0, return_inverse=True)[1]
    return numbers


def _same(captions: list[str], drawings: Tensor) -> Tensor:
    """(B, B): which pairs share their caption or their drawing."""
    numbers = {words: i for i, words in enumerate(captions)}
    words = torch.tensor([numbers[words] for words in captions])
    return (words[:, None] == words) | (drawings[:, None] == drawings)
