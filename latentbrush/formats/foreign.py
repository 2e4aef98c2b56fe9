"""Pictures of other programs: their parameters -> a request, as far as there is the same here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from latentbrush.errors import short
from latentbrush.formats.comfyui import NODE
from latentbrush.formats.parameters import SAMPLER_NAMES, Parameters, schedule_type
from latentbrush.model import LatentDiffusion
from latentbrush.request import Canvas, GuidanceRequest, ImageRequest, ModelRequest, Sampling, Start

__all__ = ["MAX_LARGER", "foreign_request", "foreign_sampler"]

MAX_LARGER = 4
"""So many times a model's own number of pixels it is asked for; far beyond it paints patterns, and for hours."""

HASH_LENGTH = 8
"""Digits of a hash; fewer may agree by chance."""

# Some write them as we do.
_SAMPLERS = {**{ours: ours for ours in SAMPLER_NAMES}, **{name: ours for ours, name in SAMPLER_NAMES.items()}}
# Older names end with a spacing.
_SPACINGS = ("Karras", "Exponential")
# What "Automatic" stands for there; for the others "Uniform".
_AUTOMATIC = {
    "ddim": "Automatic",
    **dict.fromkeys(("dpmpp_2m", "dpmpp_sde", "dpmpp_2s_ancestral", "dpm2", "dpm2_ancestral"), "Karras"),
    **dict.fromkeys(("dpmpp_2m_sde", "dpmpp_3m_sde"), "Exponential"),
}
# Said of the program, not of the picture.
_IDLE = ("Version", "User")
# What stands for "switched off".
_OFF = {"Clip skip": "1", "ENSD": "0", "Face restoration": "None", "Tiling": "False", "VAE": "Automatic"}
_EXTRA_NETWORK = re.compile(r"<\w+:[^<>]*>")
_EDIT = re.compile(r"\[[^\[\]:]*:([^\[\]:]*):[\d.]+\]")
# The first group is a bracket that is meant as one.
_WEIGHT = re.compile(r"\\([\\()\[\]])|:\s*[\d.]+\s*\)|[()\[\]]")


@dataclass
class _Reader:
    """The settings still to be read, and the lines about what cannot be done."""

    left: dict[str, str]
    notes: list[str] = field(default_factory=list)

    def note(self, key: str, value: str, why: str) -> None:
        self.notes.append(f"{short(key)[1:-1]}: {short(value)}: {why}")

    def whole(self, key: str, least: int, most: int) -> int | None:
        """A setting within its range; None where it is not stated or, with a note, none."""
        text = self.left.pop(key, None)
        if text is None:
            return None
        try:
            if least <= (value := int(text)) <= most:
                return value
        except ValueError:
            pass
        self.note(key, text, f"not a whole number from {least} to {most}")
        return None

    def number(self, key: str, least: float = -math.inf, most: float = math.inf) -> float | None:
        text = self.left.pop(key, None)
        if text is None:
            return None
        try:
            value = float(text)
            if math.isfinite(value) and least <= value <= most:
                return value
        except ValueError:
            pass
        within = "" if math.isinf(least) else f" from {least:g} to {most:g}"
        self.note(key, text, f"not a finite number{within}")
        return None

    def prompt(self, text: str, what: str) -> str:
        """Words alone: what else stands in a prompt is left out."""
        for extra in dict.fromkeys(_EXTRA_NETWORK.findall(text)):
            self.notes.append(f"{short(extra)} in the {what}: not loaded here")
        text, edits = _EDIT.subn(r"\1", _EXTRA_NETWORK.sub("", text))
        if edits:
            self.notes.append(f"changes of the {what} while painting: it is its last form throughout")
        if any(found[1] is None for found in _WEIGHT.finditer(text)):
            self.notes.append(f"weights of words in the {what}: all count alike here")
        return _WEIGHT.sub(lambda found: found[1] or "", text).strip()


def foreign_sampler(parameters: Parameters) -> str | None:
    """Our name of the sampler that the text tells; None where it tells none that is here.

    Older texts name a spacing behind it: "DPM++ 2M Karras".
    """
    return _SAMPLERS.get(_without_spacing(parameters.settings.get("Sampler", ""))[0])


def _without_spacing(told: str) -> tuple[str, str | None]:
    """The name of a sampler, and that of the spacing behind it, if there is one."""
    found = next((name for name in _SPACINGS if told.endswith(f" {name}")), None)
    return (told, None) if found is None else (told.removesuffix(f" {found}"), found)


def foreign_request(
    parameters: Parameters, model: LatentDiffusion, name: str, start: str | None = None
) -> tuple[ImageRequest, list[str]]:
    """A request for `model`, called `name`, and a line for each thing that it cannot do as the text says.

    `start`: the SHA-256 of the picture to start from, if there is one. Where a value cannot be used, the
    model's own stands.
    """
    reader = _Reader(dict(parameters.settings))
    for key, off in _OFF.items():
        if reader.left.get(key) == off:
            del reader.left[key]
    for key in _IDLE:
        reader.left.pop(key, None)
    sampler = foreign_sampler(parameters)
    _check_sampler(reader, sampler, model)
    request = ImageRequest(
        prompt=reader.prompt(parameters.prompt, "prompt"),
        model=ModelRequest(name=name),
        canvas=_canvas(reader, model),
        sampling=Sampling(
            sampler=sampler,
            steps=reader.whole("Steps", 1, model.schedule.num_train_timesteps),
            seed=reader.whole("Seed", 0, 2**63 - 1),
        ),
        guidance=GuidanceRequest(
            weight=reader.number("CFG scale"), negative=reader.prompt(parameters.negative, "negative prompt")
        ),
        start=_start(reader, start),
    )
    _check_model(reader, model, name)
    source = reader.left.pop("RNG", "GPU")  # what they take unless they say otherwise
    if source != "CPU":
        reader.note("RNG", source, "noise is drawn by the CPU's generator here, so the picture is another")
    for key, value in reader.left.items():
        reader.note(key, value, "not done here" if key.startswith(NODE) else "there is no such setting here")
    return request, reader.notes


def _check_sampler(reader: _Reader, found: str | None, model: LatentDiffusion) -> None:
    """Notes where the sampler, `found` here or not, or the spacing of its steps is not as told."""
    told, spacing = reader.left.pop("Sampler", None), reader.left.pop("Schedule type", None)
    if told is not None and found is None:
        names = ", ".join(SAMPLER_NAMES.values())
        reader.note("Sampler", told, f"not one of {names}; painted with {SAMPLER_NAMES[model.sampler]}")
    if spacing is None and told is not None:
        _, spacing = _without_spacing(told)
    sampler = found or model.sampler
    ours = schedule_type(sampler, model.plan_config(sampler))
    if spacing is not None and ours != (_AUTOMATIC.get(sampler, "Uniform") if spacing == "Automatic" else spacing):
        reader.note("Schedule type", spacing, f"this model's steps are spaced otherwise ({ours or 'leading'})")


def _canvas(reader: _Reader, model: LatentDiffusion) -> Canvas:
    told = reader.left.pop("Size", None)
    if told is None:
        return Canvas()
    own, f = model.defaults, model.factor
    found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", told)
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (width and height) or width % f or height % f:
        why = f"not a width and a height in multiples of {f} pixels"
    elif width * height > MAX_LARGER * own.width * own.height:
        why = f"more than {MAX_LARGER} times what this model paints"
    else:
        return Canvas(width=width, height=height)
    reader.note("Size", told, f"{why}; painted at {own.width}x{own.height}")
    return Canvas()


def _start(reader: _Reader, image: str | None) -> Start:
    """Their strength counts as ours; with "Hires" settings it belongs to a second pass, which is not painted."""
    second_pass = any(key.startswith("Hires") for key in reader.left)
    told = None if second_pass else reader.left.get("Denoising strength")
    strength = None if told is None else reader.number("Denoising strength", 0, 1)
    if image is not None and told is not None:
        return Start(image=image) if strength is None else Start(image=image, strength=strength)
    if image is not None:
        reader.notes.append("--image is not used: the text does not speak of a picture to start from")
    elif told is not None and strength is not None:  # else it has a note already
        reader.note("Denoising strength", told, "painted from noise; give the picture to start from with --image")
    return Start()


def _check_model(reader: _Reader, model: LatentDiffusion, name: str) -> None:
    """Their hash is the first ten digits of a checkpoint's SHA-256; ours are of files that differ from those."""
    told, sha256 = reader.left.pop("Model", None), reader.left.pop("Model hash", None)
    weights: Mapping[str, str] = {} if model.origin is None else model.origin.weights
    if sha256 and len(sha256) >= HASH_LENGTH and any(own.startswith(sha256) for own in weights.values()):
        return
    if told or sha256:
        reader.note("Model", " ".join(part for part in (told, sha256) if part), f"painted with {name}")
