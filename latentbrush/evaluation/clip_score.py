"""How well pictures match their captions, by the cosine of their CLIP embeddings (Hessel et al. 2021, "CLIPScore")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentbrush.errors import UserError
from latentbrush.evaluation.clip_extractor import CLIPExtractor
from latentbrush.evaluation.extractor import ExtractorIdentity

__all__ = ["CLIPScorer", "CLIPScores"]

WEIGHT = 2.5


@dataclass(frozen=True)
class CLIPScores:
    """Of n pictures, each with its caption. `cosines`: (n,) float64; `cut`: how many captions were longer than the
    text tower reads, so that their end counted for nothing."""

    cosines: Tensor
    cut: int

    @property
    def hessel(self) -> Tensor:
        """(n,) 2.5 max(cos, 0), Hessel et al. 2021, equation 1: 0 to 2.5."""
        return WEIGHT * self.cosines.clamp(min=0)

    @property
    def percent(self) -> Tensor:
        """(n,) 100 cos, as torchmetrics and papers on text-to-image print it: -100 to 100."""
        return 100 * self.cosines


class CLIPScorer:
    """Pictures and captions by one CLIP; scores of different ones do not compare.

    `prefix`: before every caption; Hessel et al. write 'A photo depicts '. UserError for a CLIP without a tokeniser.
    """

    def __init__(self, extractor: CLIPExtractor, prefix: str = "") -> None:
        if extractor.parts.tokenizer is None:
            raise UserError(
                f"{extractor.identity.name} has no tokeniser, so that it reads no captions; put its vocab.json and "
                "merges.txt, or tokenizer.json, into its folder"
            )
        self.extractor, self.prefix, self.tokenizer = extractor, prefix, extractor.parts.tokenizer

    @property
    def identity(self) -> ExtractorIdentity:
        return self.extractor.identity

    @torch.inference_mode()
    def texts(self, captions: Sequence[str]) -> Tensor:
        """(B, d) of length 1, on the CPU: what pictures' features are compared with."""
        tokens = self.tokenizer.encode([self.prefix + caption for caption in captions]).to(self.extractor.device)
        return self.extractor.parts.network.encode_text(tokens).cpu()
