"""model_index.json: which parts a folder has, and of which pipeline they are.

Parts and shapes decide what a model is; the pipeline's name is written for diffusers, and read for errors and for what
that pipeline makes of the scheduler.
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

__all__ = [
    "BERT",
    "CLASS_TOKEN",
    "INDEX",
    "LOW_RES",
    "SUPER_RESOLUTION",
    "TOKENIZERS",
    "TOWERS",
    "UPSCALER",
    "Index",
    "pipeline_name",
    "plain_pipeline_name",
    "read_index",
    "write_index",
]

INDEX = "model_index.json"
CLASSES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "vae": ("diffusers", ("AutoencoderKL", "AutoencoderTiny")),
    "unet": ("diffusers", ("UNet2DConditionModel",)),
    "text_encoder": ("transformers", ("CLIPTextModel",)),
    "text_encoder_2": ("transformers", ("CLIPTextModelWithProjection",)),
    "tokenizer": ("transformers", ("CLIPTokenizer", "CLIPTokenizerFast")),
    "tokenizer_2": ("transformers", ("CLIPTokenizer", "CLIPTokenizerFast")),
}
BERT = "bert"
"""The tower of LDM's own text-to-image model, whose other parts have names of their own, too."""
LDM_CLASSES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "vqvae": ("diffusers", ("AutoencoderKL",)),
    "unet": CLASSES["unet"],
    BERT: ("latent_diffusion", ("LDMBertModel",)),
    "tokenizer": ("transformers", ("BertTokenizer", "BertTokenizerFast")),
}
CLASS_TOKEN = "class_token"
"""The table of LDM's class-conditional models."""
TOKEN_CLASSES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "vqvae": ("diffusers", ("VQModel",)),
    "unet": CLASSES["unet"],
    CLASS_TOKEN: ("latentbrush", ("ClassToken",)),
}
TOWERS, TOKENIZERS = ("text_encoder", "text_encoder_2"), ("tokenizer", "tokenizer_2")
# Not run here unless asked for, as the safety checker: it and what serves it, image prompts or the depth of pictures.
UNUSED_PARTS = ("safety_checker", "feature_extractor", "image_encoder", "depth_estimator", "watermarker")
DEPTH = "StableDiffusionDepth2ImgPipeline"
UPSCALER = "StableDiffusionUpscalePipeline"
LOW_RES = "low_res_scheduler"
MAX_NOISE_LEVEL = 350
"""Of an upscaler that does not state another."""
PIPELINES: Mapping[Task, str] = {
    "text-to-image": "StableDiffusionPipeline",
    "inpainting": "StableDiffusionInpaintPipeline",
    "editing": "StableDiffusionInstructPix2PixPipeline",
    "depth-to-image": DEPTH,
    "upscaling": UPSCALER,
}
XL_PIPELINES: Mapping[Task, str] = {
    "text-to-image": "StableDiffusionXLPipeline",
    "inpainting": "StableDiffusionXLInpaintPipeline",
}
LDM_TEXT = "LDMTextToImagePipeline"
OWN = "LatentDiffusion"
"""Models that diffusers has no pipeline for."""
WORDLESS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "vqvae": ("diffusers", ("VQModel",)),
    "unet": ("diffusers", ("UNet2DModel",)),
}
"""Of models whose UNet reads no words: then there are no towers, and a first stage only where latents are diffused."""
OWN_WORDLESS: Mapping[str, tuple[str, tuple[str, ...]]] = {**WORDLESS, "unet": ("latentbrush", ("UNet2D",))}
"""Where the UNet is none of diffusers', too."""
DDPM, DDIM, LDM, SUPER_RESOLUTION = "DDPMPipeline", "DDIMPipeline", "LDMPipeline", "LDMSuperResolutionPipeline"
FROM_UNIT_NOISE = ("ddpm", "ddim", "dpmpp_2m", "dpmpp_3m", "dpmpp_2m_sde", "dpmpp_2s", "dpmpp_3s", "lcm", "tcd")
"""Those whose schedulers work in a pipeline that never scales x, and hands them a generator."""
FROM_MUCH_NOISE = ("euler", "euler_ancestral", "heun", "lms", "dpm2", "dpm2_ancestral", "dpmpp_sde")
"""Of these the LDM pipeline takes the first level of the whole schedule, not that of the steps."""
REFINER = "StableDiffusionXLImg2ImgPipeline"
PLAIN_OFFSET = (
    "StableDiffusionXL",
    "StableDiffusionInstructPix2Pix",
    "StableDiffusionDepth2Img",
    "StableDiffusionUpscale",
    *(LDM_TEXT, OWN),
)
"""Pipelines that take a scheduler's steps_offset as its file states it, as all without words do. The others always
take 1."""

NEVER_CLIPPED = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")
"""Pipelines that set a scheduler's clip_sample to false, for latents are not bounded. All others leave it."""


@dataclass(frozen=True)
class Index:
    """What a folder holds. `parts`: the folders of networks and tokenisers; `scheduler`: its class.

    `own_unet`: is the UNet of no class of diffusers? `tiny`: is its autoencoder a tiny one?
    `zero_empty`: is an empty negative prompt all zeros (Stable Diffusion XL)? `aesthetic`: is the model told an
    aesthetic score (its refiner)? `wordless`: does the UNet read no words? `low_res`: of an upscaler, the class of the
    scheduler that noises its small pictures, and `max_noise_level`, the greatest level of it.
    """

    pipeline: str
    parts: tuple[str, ...]
    scheduler: str
    tiny: bool = False
    zero_empty: bool = True
    aesthetic: bool = False
    low_res: str | None = None
    max_noise_level: int = MAX_NOISE_LEVEL
    wordless: bool = False
    own_unet: bool = False

    @property
    def is_xl(self) -> bool:
        return "text_encoder_2" in self.parts

    @property
    def reads_bert(self) -> bool:
        """Is it LDM's own text-to-image model?"""
        return BERT in self.parts

    @property
    def reads_class(self) -> bool:
        """Is it one of LDM's class-conditional models?"""
        return CLASS_TOKEN in self.parts

    @property
    def reads_words(self) -> bool:
        return not self.wordless and not self.reads_class

    @property
    def keeps_clip(self) -> bool:
        """Does its pipeline clip as the scheduler's file says? Two never do."""
        return self.pipeline not in NEVER_CLIPPED

    @property
    def never_starts_slowly(self) -> bool:
        """Does its pipeline leave out PNDM's Runge-Kutta steps, whatever the scheduler's file says? One does."""
        return self.pipeline == PIPELINES["inpainting"]

    @property
    def classes(self) -> Mapping[str, tuple[str, tuple[str, ...]]]:
        """Part -> the library and the classes that it may be of, the one that we write first."""
        return _classes(self.parts, wordless=self.wordless, own_unet=self.own_unet)

    @property
    def keeps_offset(self) -> bool:
        """Does its pipeline take the scheduler's steps_offset as stated?"""
        return self.wordless or self.pipeline.startswith(PLAIN_OFFSET)


def pipeline_name(task: Task, *, xl: bool, aesthetic: bool, bert: bool = False) -> str:
    """The diffusers pipeline for a model. UserError where there is none."""
    if bert and task == "text-to-image":
        return LDM_TEXT
    if xl and aesthetic and task == "text-to-image":
        return REFINER
    names = XL_PIPELINES if xl else PIPELINES
    if task not in names:
        raise UserError(f"diffusers has no pipeline for {task}{' of Stable Diffusion XL' if xl else ''} to save it for")
    return names[task]


def plain_pipeline_name(task: Task, sampler: str, spacing: str, *, latents: bool) -> str:
    """The diffusers pipeline for a model without words, of latents or of pixels.

    UserError for a sampler, or a spacing of its steps, with which that pipeline would paint other pictures, or none.
    """
    if task == "upscaling":
        return _super_resolution(sampler, latents=latents)
    if latents:
        if sampler in FROM_MUCH_NOISE and spacing == "leading":
            raise UserError(
                f"the sampler {sampler} with leading spacing cannot be saved: {LDM} starts it from more noise and "
                "would paint other pictures; choose trailing or linspace spacing"
            )
        return LDM
    if sampler not in FROM_UNIT_NOISE:
        raise UserError(
            f"the sampler {sampler} cannot be saved: {DDPM} could not paint with it; save the model with another "
            f"({', '.join(FROM_UNIT_NOISE)}), and choose this one when painting"
        )
    return DDIM if sampler == "ddim" else DDPM


def _super_resolution(sampler: str, *, latents: bool) -> str:
    if not latents:
        raise UserError("diffusers has no pipeline for upscaling in pixels to save the model for")
    if sampler in FROM_MUCH_NOISE:
        raise UserError(
            f"the sampler {sampler} cannot be saved: {SUPER_RESOLUTION} scales the small picture with the latents "
            "then, and would paint others; save it with another, such as ddim, and choose this one when painting"
        )
    return SUPER_RESOLUTION


def read_index(directory: Path) -> Index:
    """UserError unless model_index.json names the parts of a model of the families here, and nothing unknown."""
    path = directory / INDEX
    if not path.is_file():
        found = ", ".join(sorted(entry.name for entry in directory.iterdir())[:5]) or "nothing"
        raise UserError(f"{directory} has no {INDEX} (but {found}); give the folder that holds unet and vae")
    fields = Fields(path, read_json(path))
    unet = fields.raw("unet")
    own_unet = _is_one_of(unet, OWN_WORDLESS["unet"])
    wordless = own_unet or _is_one_of(unet, WORDLESS["unet"])
    parts = _wordless_parts(fields) if wordless else _parts(fields)
    for part in parts:
        _check_class(fields, part, _classes(parts, wordless=wordless, own_unet=own_unet))
    scheduler = _class_of(fields, "scheduler")
    upscales = _named(fields, LOW_RES)
    low_res = _class_of(fields, LOW_RES) if upscales else None
    fields.harmless("requires_safety_checker", "add_watermarker", *UNUSED_PARTS)
    for part in fields.stated():
        if fields.raw(part) == [None, None]:
            fields.harmless(part)
    xl = "text_encoder_2" in parts
    pipeline = str(fields.raw("_class_name"))
    result = Index(
        pipeline=pipeline,
        parts=parts,
        # Of any other that pipeline makes this one.
        scheduler="DDIMScheduler" if pipeline == DDIM else scheduler,
        tiny=fields.raw("vae") == ["diffusers", "AutoencoderTiny"],
        wordless=wordless,
        own_unet=own_unet,
        zero_empty=xl and fields.flag("force_zeros_for_empty_prompt", True),
        aesthetic=xl and fields.flag("requires_aesthetics_score", False),
        low_res=low_res,
        max_noise_level=fields.whole("max_noise_level", MAX_NOISE_LEVEL) if upscales else MAX_NOISE_LEVEL,
    )
    fields.done()
    return result


def _class_of(fields: Fields, scheduler: str) -> str:
    found = fields.raw(scheduler)
    if not (isinstance(found, list) and len(found) == 2 and isinstance(found[1], str)):
        raise fields.wrong(scheduler, found, "a library and a class")
    return found[1]


def _parts(fields: Fields) -> tuple[str, ...]:
    """Those that the folder must have: with a second tower, the first may be missing, its tokeniser with it."""
    for part, classes in ((BERT, LDM_CLASSES), (CLASS_TOKEN, TOKEN_CLASSES)):
        if _named(fields, part):
            return tuple(classes)
    if fields.raw("text_encoder_2") in (None, [None, None]):
        return ("vae", "unet", "text_encoder", "tokenizer")
    first = (
        () if fields.raw("text_encoder") == [None, None] == fields.raw("tokenizer") else ("text_encoder", "tokenizer")
    )
    return ("vae", "unet", *first, "text_encoder_2", "tokenizer_2")


def _wordless_parts(fields: Fields) -> tuple[str, ...]:
    for part in ("vae", *TOWERS, *TOKENIZERS):
        if _named(fields, part):
            raise UserError(
                f"{fields.path}: the unet is a {WORDLESS['unet'][1][0]}, which reads no words, and beside it stands "
                f"{part}; that needs a {CLASSES['unet'][1][0]}"
            )
    return ("vqvae", "unet") if _named(fields, "vqvae") else ("unet",)


def _named(fields: Fields, part: str) -> bool:
    return fields.raw(part) not in (None, [None, None])


def _classes(parts: tuple[str, ...], *, wordless: bool, own_unet: bool) -> Mapping[str, tuple[str, tuple[str, ...]]]:
    """Part -> the library and the classes that it may be of, the one that we write first."""
    if wordless:
        return OWN_WORDLESS if own_unet else WORDLESS
    return LDM_CLASSES if BERT in parts else TOKEN_CLASSES if CLASS_TOKEN in parts else CLASSES


def _is_one_of(found: Any, known: tuple[str, tuple[str, ...]]) -> bool:
    library, classes = known
    return found in [[library, name] for name in classes]


def _check_class(fields: Fields, part: str, known: Mapping[str, tuple[str, tuple[str, ...]]]) -> None:
    found, (library, classes) = fields.raw(part), known[part]
    if not _is_one_of(found, known[part]):
        like = ", as in Stable Diffusion" if known is CLASSES else ""
        raise UserError(
            f"{fields.path}: {part} of {fields.raw('_class_name')} is {found}; only {library}'s "
            f"{' or '.join(classes)} is supported{like}"
        )


def write_index(index: Index) -> dict[str, Any]:
    """The file; parts that diffusers knows and this model lacks are stated as null."""
    optional = [*TOWERS, *TOKENIZERS] if index.is_xl else ["safety_checker"]
    absent = [*optional, "feature_extractor", "image_encoder"]
    checked: dict[str, Any] = {"requires_safety_checker": False}
    if index.wordless or index.pipeline in (LDM_TEXT, OWN):
        absent, checked = [], {}
    if index.pipeline == DEPTH:
        absent, checked = ["depth_estimator", "feature_extractor"], {}
    if index.low_res is not None:
        absent = ["safety_checker", "feature_extractor", "watermarker"]
        checked = {LOW_RES: ["diffusers", index.low_res], "max_noise_level": index.max_noise_level}
    return {
        "_class_name": index.pipeline,
        "_diffusers_version": DIFFUSERS_VERSION,
        **{part: [None, None] for part in sorted(absent)},
        **(_xl_settings(index) if index.is_xl else checked),
        "scheduler": ["diffusers", index.scheduler],
        **{part: _written_class(index, part) for part in index.parts},
    }


def _written_class(index: Index, part: str) -> list[str]:
    library, classes = index.classes[part]
    return [library, classes[part == "vae" and index.tiny]]


def _xl_settings(index: Index) -> dict[str, Any]:
    aesthetic = (
        {} if index.pipeline == XL_PIPELINES["text-to-image"] else {"requires_aesthetics_score": index.aesthetic}
    )
    return {"force_zeros_for_empty_prompt": index.zero_empty, **aesthetic}
