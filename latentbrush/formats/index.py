"""model_index.json: which parts a folder has, and of which pipeline they are; read strictly, and written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentbrush.errors import UserError
from latentbrush.files import read_json
from latentbrush.formats.configs import DIFFUSERS_VERSION
from latentbrush.formats.fields import Fields
from latentbrush.formats.kinds import (
    BERT,
    CLASS_TOKEN,
    LDM_BERT,
    LDM_CLASSES,
    OWN_WORDLESS,
    STABLE_DIFFUSION,
    TOKENIZERS,
    TOWERS,
    WORDLESS,
    XL,
    Classes,
    Kind,
)
from latentbrush.formats.pipelines import ABSENT, DDIM, INPAINTING, NEVER_CLIPPED, PLAIN_OFFSET, XL_TEXT

__all__ = ["INDEX", "LOW_RES", "UNUSED_PARTS", "Index", "read_index", "write_index"]

INDEX = "model_index.json"
# Not run here unless asked for, as the safety checker: it and what serves it, image prompts or the depth of pictures.
UNUSED_PARTS = ("safety_checker", "feature_extractor", "image_encoder", "depth_estimator", "watermarker")
LOW_RES = "low_res_scheduler"
MAX_NOISE_LEVEL = 350
"""Of an upscaler that does not state another."""
NULL = [None, None]


@dataclass(frozen=True)
class Index:
    """What a folder holds. `parts`: the folders of networks and tokenisers; `scheduler`: its class.

    `tiny`: is its autoencoder a tiny one? `zero_empty`: is an empty negative prompt all zeros (Stable Diffusion XL)?
    `aesthetic`: is the model told an aesthetic score (its refiner)? `low_res`: of an upscaler, the class of the
    scheduler that noises its small pictures, and `max_noise_level`, the greatest level of it.
    """

    kind: Kind
    pipeline: str
    parts: tuple[str, ...]
    scheduler: str
    tiny: bool = False
    zero_empty: bool = True
    aesthetic: bool = False
    low_res: str | None = None
    max_noise_level: int = MAX_NOISE_LEVEL

    @property
    def keeps_clip(self) -> bool:
        """Does its pipeline clip as the scheduler's file says? Two never do."""
        return self.pipeline not in NEVER_CLIPPED

    @property
    def keeps_offset(self) -> bool:
        """Does its pipeline take the scheduler's steps_offset as stated?"""
        return self.kind.keeps_offset or self.pipeline.startswith(PLAIN_OFFSET)

    @property
    def never_starts_slowly(self) -> bool:
        """Does its pipeline leave out PNDM's Runge-Kutta steps, whatever the scheduler's file says? One does."""
        return self.pipeline == INPAINTING


def read_index(directory: Path) -> Index:
    """UserError unless model_index.json names the parts of a model of the kinds here, and nothing unknown."""
    path = directory / INDEX
    if not path.is_file():
        found = ", ".join(sorted(entry.name for entry in directory.iterdir())[:5]) or "nothing"
        raise UserError(f"{directory} has no {INDEX} (but {found}); give the folder that holds unet and vae")
    fields = Fields(path, read_json(path))
    kind = _kind(fields)
    parts = _parts(fields, kind)
    for part in parts:
        _check_class(fields, part, kind)
    scheduler = _class_of(fields, "scheduler")
    upscales = _named(fields, LOW_RES)
    low_res = _class_of(fields, LOW_RES) if upscales else None
    fields.harmless("requires_safety_checker", "add_watermarker", *UNUSED_PARTS)
    for part in fields.stated():
        if fields.raw(part) == NULL:
            fields.harmless(part)
    pipeline = str(fields.raw("_class_name"))
    result = Index(
        kind=kind,
        pipeline=pipeline,
        parts=parts,
        # Of any other that pipeline makes this one.
        scheduler="DDIMScheduler" if pipeline == DDIM else scheduler,
        tiny=fields.raw("vae") == ["diffusers", "AutoencoderTiny"],
        zero_empty=kind is XL and fields.flag("force_zeros_for_empty_prompt", True),
        aesthetic=kind is XL and fields.flag("requires_aesthetics_score", False),
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


def _kind(fields: Fields) -> Kind:
    """By the UNet's class where it reads no words, else by the part that no other kind has."""
    for kind in (OWN_WORDLESS, WORDLESS):
        if _is_one_of(fields.raw("unet"), kind.classes["unet"]):
            return kind
    for part, kind in ((BERT, LDM_BERT), (CLASS_TOKEN, LDM_CLASSES), ("text_encoder_2", XL)):
        if _named(fields, part):
            return kind
    return STABLE_DIFFUSION


def _parts(fields: Fields, kind: Kind) -> tuple[str, ...]:
    """Those that the folder must have."""
    if kind.reads == "nothing":
        _refuse_towers(fields)
    if kind is XL:  # a tower is missed unless it is stated that there is none
        lacks = fields.raw("text_encoder") == NULL == fields.raw("tokenizer")
    else:
        lacks = not all(_named(fields, part) for part in kind.optional)
    return tuple(part for part in kind.classes if not (lacks and part in kind.optional))


def _refuse_towers(fields: Fields) -> None:
    plain, conditional = (kind.classes["unet"][1][0] for kind in (WORDLESS, STABLE_DIFFUSION))
    for part in ("vae", *TOWERS, *TOKENIZERS):
        if _named(fields, part):
            raise UserError(
                f"{fields.path}: the unet is a {plain}, which reads no words, and beside it stands {part}; that needs "
                f"a {conditional}"
            )


def _named(fields: Fields, part: str) -> bool:
    return fields.raw(part) not in (None, NULL)


def _is_one_of(found: Any, known: Classes) -> bool:
    library, classes = known
    return found in [[library, name] for name in classes]


def _check_class(fields: Fields, part: str, kind: Kind) -> None:
    found, (library, classes) = fields.raw(part), kind.classes[part]
    if not _is_one_of(found, kind.classes[part]):
        like = f", as in {kind.like}" if kind.like else ""
        raise UserError(
            f"{fields.path}: {part} of {fields.raw('_class_name')} is {found}; only {library}'s "
            f"{' or '.join(classes)} is supported{like}"
        )


def write_index(index: Index) -> dict[str, Any]:
    """The file; parts that its pipeline knows and this model lacks are stated as null."""
    return {
        "_class_name": index.pipeline,
        "_diffusers_version": DIFFUSERS_VERSION,
        **dict.fromkeys(sorted(ABSENT.get(index.pipeline, ())), NULL),
        **_settings(index),
        "scheduler": ["diffusers", index.scheduler],
        **{part: _written_class(index, part) for part in index.parts},
    }


def _settings(index: Index) -> Mapping[str, Any]:
    """What the pipeline is told beside its parts."""
    if index.low_res is not None:
        return {LOW_RES: ["diffusers", index.low_res], "max_noise_level": index.max_noise_level}
    if index.kind is XL:
        aesthetic = {} if index.pipeline == XL_TEXT else {"requires_aesthetics_score": index.aesthetic}
        return {"force_zeros_for_empty_prompt": index.zero_empty, **aesthetic}
    return {"requires_safety_checker": False} if "safety_checker" in ABSENT.get(index.pipeline, ()) else {}


def _written_class(index: Index, part: str) -> list[str]:
    library, classes = index.kind.classes[part]
    return [library, classes[part == "vae" and index.tiny]]
