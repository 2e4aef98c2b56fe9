"""model_index.json: which parts a folder has, and of which pipeline they are.

Parts and shapes decide what a model is; the pipeline's name is written for diffusers, and read for errors alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentbrush.conditioning import Task
from latentbrush.errors import UserError
from latentbrush.files import read_json
from latentbrush.formats.configs import DIFFUSERS_VERSION
from latentbrush.formats.fields import Fields

__all__ = ["INDEX", "TOKENIZERS", "TOWERS", "Index", "pipeline_name", "read_index", "write_index"]

INDEX = "model_index.json"
CLASSES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "vae": ("diffusers", ("AutoencoderKL", "AutoencoderTiny")),
    "unet": ("diffusers", ("UNet2DConditionModel",)),
    "text_encoder": ("transformers", ("CLIPTextModel",)),
    "text_encoder_2": ("transformers", ("CLIPTextModelWithProjection",)),
    "tokenizer": ("transformers", ("CLIPTokenizer", "CLIPTokenizerFast")),
    "tokenizer_2": ("transformers", ("CLIPTokenizer", "CLIPTokenizerFast")),
}
TOWERS, TOKENIZERS = ("text_encoder", "text_encoder_2"), ("tokenizer", "tokenizer_2")
# Not run here unless asked for, as the safety checker: it and what serves it, image prompts or the depth of pictures.
UNUSED_PARTS = ("safety_checker", "feature_extractor", "image_encoder", "depth_estimator", "watermarker")
DEPTH = "StableDiffusionDepth2ImgPipeline"
PIPELINES: Mapping[Task, str] = {
    "text-to-image": "StableDiffusionPipeline",
    "inpainting": "StableDiffusionInpaintPipeline",
    "editing": "StableDiffusionInstructPix2PixPipeline",
    "depth-to-image": DEPTH,
}
XL_PIPELINES: Mapping[Task, str] = {
    "text-to-image": "StableDiffusionXLPipeline",
    "inpainting": "StableDiffusionXLInpaintPipeline",
}
REFINER = "StableDiffusionXLImg2ImgPipeline"
PLAIN_OFFSET = (
    "StableDiffusionXL",
    "StableDiffusionInstructPix2Pix",
    "StableDiffusionDepth2Img",
    "StableDiffusionUpscale",
)
"""Pipelines that take a scheduler's steps_offset as its file states it. The others always take 1."""


@dataclass(frozen=True)
class Index:
    """What a folder holds. `parts`: the folders of networks and tokenisers; `scheduler`: its class.

    `tiny`: is its autoencoder a tiny one? `zero_empty`: is an empty negative prompt all zeros (Stable Diffusion XL)?
    `aesthetic`: is the model told an aesthetic score (its refiner)?
    """

    pipeline: str
    parts: tuple[str, ...]
    scheduler: str
    tiny: bool = False
    zero_empty: bool = True
    aesthetic: bool = False

    @property
    def is_xl(self) -> bool:
        return "text_encoder_2" in self.parts

    @property
    def keeps_offset(self) -> bool:
        """Does its pipeline take the scheduler's steps_offset as stated?"""
        return self.pipeline.startswith(PLAIN_OFFSET)


def pipeline_name(task: Task, *, xl: bool, aesthetic: bool) -> str:
    """The diffusers pipeline for a model. UserError where there is none."""
    if xl and aesthetic and task == "text-to-image":
        return REFINER
    names = XL_PIPELINES if xl else PIPELINES
    if task not in names:
        raise UserError(f"diffusers has no pipeline for {task}{' of Stable Diffusion XL' if xl else ''} to save it for")
    return names[task]


def read_index(directory: Path) -> Index:
    """UserError unless model_index.json names the parts of a Stable Diffusion model, and nothing unknown."""
    path = directory / INDEX
    if not path.is_file():
        found = ", ".join(sorted(entry.name for entry in directory.iterdir())[:5]) or "nothing"
        raise UserError(f"{directory} has no {INDEX} (but {found}); give the folder that holds unet and vae")
    fields = Fields(path, read_json(path))
    parts = _parts(fields)
    for part in parts:
        _check_class(fields, part)
    scheduler = fields.raw("scheduler")
    if not (isinstance(scheduler, list) and len(scheduler) == 2 and isinstance(scheduler[1], str)):
        raise fields.wrong("scheduler", scheduler, "a library and a class")
    fields.harmless("requires_safety_checker", "add_watermarker", *UNUSED_PARTS)
    for part in fields.stated():
        if fields.raw(part) == [None, None]:
            fields.harmless(part)
    xl = "text_encoder_2" in parts
    result = Index(
        pipeline=str(fields.raw("_class_name")),
        parts=parts,
        scheduler=scheduler[1],
        tiny=fields.raw("vae") == ["diffusers", "AutoencoderTiny"],
        zero_empty=xl and fields.flag("force_zeros_for_empty_prompt", True),
        aesthetic=xl and fields.flag("requires_aesthetics_score", False),
    )
    fields.done()
    return result


def _parts(fields: Fields) -> tuple[str, ...]:
    """Those that the folder must have: with a second tower, the first may be missing, its tokeniser with it."""
    if fields.raw("text_encoder_2") in (None, [None, None]):
        return ("vae", "unet", "text_encoder", "tokenizer")
    first = (
        () if fields.raw("text_encoder") == [None, None] == fields.raw("tokenizer") else ("text_encoder", "tokenizer")
    )
    return ("vae", "unet", *first, "text_encoder_2", "tokenizer_2")


def _check_class(fields: Fields, part: str) -> None:
    library, classes = CLASSES[part]
    found = fields.raw(part)
    if found not in [[library, name] for name in classes]:
        raise UserError(
            f"{fields.path}: {part} of {fields.raw('_class_name')} is {found}; only {library}'s "
            f"{' or '.join(classes)} is supported, as in Stable Diffusion"
        )


def write_index(index: Index) -> dict[str, Any]:
    """The file; parts that diffusers knows and this model lacks are stated as null."""
    optional = [*TOWERS, *TOKENIZERS] if index.is_xl else ["safety_checker"]
    absent = [*optional, "feature_extractor", "image_encoder"]
    checked = {"requires_safety_checker": False}
    if index.pipeline == DEPTH:
        absent, checked = ["depth_estimator", "feature_extractor"], {}
    return {
        "_class_name": index.pipeline,
        "_diffusers_version": DIFFUSERS_VERSION,
        **{part: [None, None] for part in sorted(absent)},
        **(_xl_settings(index) if index.is_xl else checked),
        "scheduler": ["diffusers", index.scheduler],
        **{part: [CLASSES[part][0], CLASSES[part][1][part == "vae" and index.tiny]] for part in index.parts},
    }


def _xl_settings(index: Index) -> dict[str, Any]:
    aesthetic = (
        {} if index.pipeline == XL_PIPELINES["text-to-image"] else {"requires_aesthetics_score": index.aesthetic}
    )
    return {"force_zeros_for_empty_prompt": index.zero_empty, **aesthetic}
