"""The pipelines of diffusers: for which one a model is saved, and what they make of a folder.

Their names are written for diffusers, and read for errors and for what that pipeline makes of the scheduler.
"""

from __future__ import annotations

from collections.abc import Mapping

from latentbrush.conditioning import Task
from latentbrush.errors import UserError
from latentbrush.formats.kinds import LDM_BERT, LDM_CLASSES, TOKENIZERS, TOWERS, XL, Kind
from latentbrush.model import LatentDiffusion
from latentbrush.nn import Pixels

__all__ = [
    "ABSENT",
    "DDIM",
    "FROM_MUCH_NOISE",
    "FROM_UNIT_NOISE",
    "INPAINTING",
    "LDM_TEXT",
    "NEVER_CLIPPED",
    "OWN",
    "PLAIN_OFFSET",
    "SUPER_RESOLUTION",
    "UPSCALER",
    "XL_TEXT",
    "pipeline_name",
    "pipeline_of",
    "takes_score",
]

INPAINTING, DEPTH = "StableDiffusionInpaintPipeline", "StableDiffusionDepth2ImgPipeline"
UPSCALER = "StableDiffusionUpscalePipeline"
PIPELINES: Mapping[Task, str] = {
    "text-to-image": "StableDiffusionPipeline",
    "inpainting": INPAINTING,
    "editing": "StableDiffusionInstructPix2PixPipeline",
    "depth-to-image": DEPTH,
    "upscaling": UPSCALER,
}
XL_TEXT, REFINER = "StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline"
XL_PIPELINES: Mapping[Task, str] = {"text-to-image": XL_TEXT, "inpainting": "StableDiffusionXLInpaintPipeline"}
DDPM, DDIM, LDM, SUPER_RESOLUTION = "DDPMPipeline", "DDIMPipeline", "LDMPipeline", "LDMSuperResolutionPipeline"
LDM_TEXT = "LDMTextToImagePipeline"
OWN = "LatentDiffusion"
"""Models that diffusers has no pipeline for."""

ABSENT: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(PIPELINES.values(), ("feature_extractor", "image_encoder", "safety_checker")),
    DEPTH: ("depth_estimator", "feature_extractor"),
    UPSCALER: ("feature_extractor", "safety_checker", "watermarker"),
    **dict.fromkeys((*XL_PIPELINES.values(), REFINER), ("feature_extractor", "image_encoder", *TOWERS, *TOKENIZERS)),
}
"""Parts that a pipeline knows, and a model may lack: they are stated as null then. All others want nothing stated."""
PLAIN_OFFSET = (
    "StableDiffusionXL",
    "StableDiffusionInstructPix2Pix",
    "StableDiffusionDepth2Img",
    "StableDiffusionUpscale",
    *(LDM_TEXT, OWN),
)
"""How the names begin of pipelines that take a scheduler's steps_offset as its file states it, as all without words
do. The others always take 1."""
NEVER_CLIPPED = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")
"""Pipelines that set a scheduler's clip_sample to false, for latents are not bounded. All others leave it."""

FROM_UNIT_NOISE = ("ddpm", "ddim", "dpmpp_2m", "dpmpp_3m", "dpmpp_2m_sde", "dpmpp_2s", "dpmpp_3s", "lcm", "tcd")
"""Those whose schedulers work in a pipeline that never scales x, and hands them a generator."""
FROM_MUCH_NOISE = ("euler", "euler_ancestral", "heun", "lms", "dpm2", "dpm2_ancestral", "dpmpp_sde")
"""Of these the LDM pipeline takes the first level of the whole schedule, not that of the steps."""
AESTHETIC_NUMBERS = 5
"""What the refiner of Stable Diffusion XL takes beside the words, the last of them an aesthetic score."""


def takes_score(model: LatentDiffusion) -> bool:
    """Is the model told an aesthetic score?"""
    return model.micro_count == AESTHETIC_NUMBERS


def pipeline_of(model: LatentDiffusion, kind: Kind) -> str:
    """The diffusers pipeline for a model of this kind.

    UserError where there is none, and for a sampler, or a spacing of its steps, with which that pipeline would paint
    other pictures, or none.
    """
    if kind is LDM_CLASSES or (model.task == "inpainting" and kind.reads != "words"):
        return OWN
    if kind.reads == "nothing":
        latents = not isinstance(model.autoencoder, Pixels)
        return _plain_name(model.task, model.sampler, model.plan_config().spacing, latents=latents)
    if kind is LDM_BERT and model.sampler in FROM_MUCH_NOISE:
        raise UserError(
            f"the sampler {model.sampler} cannot be saved: {LDM_TEXT} starts it from too little noise and would paint "
            "other pictures; save the model with another (ddim), and choose this one when painting"
        )
    return pipeline_name(model.task, kind, aesthetic=takes_score(model))


def pipeline_name(task: Task, kind: Kind, *, aesthetic: bool = False) -> str:
    """The diffusers pipeline for a model of this kind that reads words. UserError where there is none."""
    if kind is LDM_BERT and task == "text-to-image":
        return LDM_TEXT
    if kind is XL and aesthetic and task == "text-to-image":
        return REFINER
    names = XL_PIPELINES if kind is XL else PIPELINES
    if task not in names:
        of_xl = " of Stable Diffusion XL" if kind is XL else ""
        raise UserError(f"diffusers has no pipeline for {task}{of_xl} to save it for")
    return names[task]


def _plain_name(task: Task, sampler: str, spacing: str, *, latents: bool) -> str:
    """That for a model without words, of latents or of pixels."""
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
