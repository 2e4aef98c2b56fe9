"""The kinds of model folders: which parts each has, and of which classes they may be."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from latentbrush.conditioning import ClassTokenConditioner
from latentbrush.model import LatentDiffusion
from latentbrush.nn import UNet2D

__all__ = [
    "BERT",
    "CLASS_TOKEN",
    "LDM_BERT",
    "LDM_CLASSES",
    "OWN_WORDLESS",
    "STABLE_DIFFUSION",
    "TOKENIZERS",
    "TOWERS",
    "WORDLESS",
    "XL",
    "Classes",
    "Kind",
    "kind_of",
]

BERT = "bert"
"""The tower of LDM's own text-to-image model, whose other parts have names of their own, too."""
CLASS_TOKEN = "class_token"
"""The table of LDM's class-conditional models."""
TOWERS, TOKENIZERS = ("text_encoder", "text_encoder_2"), ("tokenizer", "tokenizer_2")
TOKENIZER_OF: Mapping[str, str] = {**dict(zip(TOWERS, TOKENIZERS, strict=True)), BERT: "tokenizer"}
"""The tower that reads its tokens -> the tokeniser."""

Classes = tuple[str, tuple[str, ...]]
"""The library of a part, and the classes that it may be of, the one that we write first."""


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind of folder. `classes`: of its parts, in the order in which they are read; `optional`: those of them that
    some models lack, all together. `reads`: what such a model is told. `like`: what has such parts, for errors.
    `keeps_offset`: do all its pipelines take the scheduler's steps_offset as the file states it?
    """

    classes: Mapping[str, Classes]
    optional: tuple[str, ...] = ()
    reads: Literal["words", "class", "nothing"] = "words"
    like: str = ""
    keeps_offset: bool = False

    def parts_of(self, networks: Collection[str]) -> tuple[str, ...]:
        """All parts of a model with these networks: they, and the tokenisers of its towers."""
        present = {*networks, *(TOKENIZER_OF[part] for part in networks if part in TOKENIZER_OF)}
        return tuple(part for part in self.classes if part in present)


UNET: Classes = ("diffusers", ("UNet2DConditionModel",))
CLIP_TOKENIZER: Classes = ("transformers", ("CLIPTokenizer", "CLIPTokenizerFast"))
VQ: Classes = ("diffusers", ("VQModel",))

STABLE_DIFFUSION = Kind(
    {
        "vae": ("diffusers", ("AutoencoderKL", "AutoencoderTiny")),
        "unet": UNET,
        "text_encoder": ("transformers", ("CLIPTextModel",)),
        "tokenizer": CLIP_TOKENIZER,
    },
    like="Stable Diffusion",
)
XL = Kind(
    {
        **STABLE_DIFFUSION.classes,
        "text_encoder_2": ("transformers", ("CLIPTextModelWithProjection",)),
        "tokenizer_2": CLIP_TOKENIZER,
    },
    optional=("text_encoder", "tokenizer"),
    like="Stable Diffusion",
)
LDM_BERT = Kind(
    {
        "vqvae": ("diffusers", ("AutoencoderKL",)),
        "unet": UNET,
        BERT: ("latent_diffusion", ("LDMBertModel",)),
        "tokenizer": ("transformers", ("BertTokenizer", "BertTokenizerFast")),
    }
)
"""LDM's own text-to-image model."""
LDM_CLASSES = Kind({"vqvae": VQ, "unet": UNET, CLASS_TOKEN: ("latentbrush", ("ClassToken",))}, reads="class")
"""LDM's class-conditional models."""
WORDLESS = Kind(
    {"vqvae": VQ, "unet": ("diffusers", ("UNet2DModel",))}, optional=("vqvae",), reads="nothing", keeps_offset=True
)
"""Models whose UNet reads no words: there are no towers, and a first stage only where latents are diffused."""
OWN_WORDLESS = Kind(
    {"vqvae": VQ, "unet": ("latentbrush", ("UNet2D",))}, optional=("vqvae",), reads="nothing", keeps_offset=True
)
"""Those whose UNet is none of diffusers', too."""


def kind_of(model: LatentDiffusion) -> Kind:
    """That of the folder which a model is saved as."""
    if isinstance(model.unet, UNet2D):
        return WORDLESS if model.unet.config.heads is None else OWN_WORDLESS
    if isinstance(model.text, ClassTokenConditioner):
        return LDM_CLASSES
    if model.reads_bert:
        return LDM_BERT
    return XL if model.is_xl else STABLE_DIFFUSION
