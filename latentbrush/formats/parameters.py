"""The `parameters` text that web UIs write into PNGs and read back, AUTOMATIC1111's first of all.

    the prompt, of any number of lines
    Negative prompt: the same
    Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, ...

It is no strict format: a prompt whose own lines look like the second or the last of these comes back otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from latentbrush.diffusion import PlanConfig, find_sampler
from latentbrush.errors import UserError
from latentbrush.formats.record import PictureRecord

__all__ = [
    "PARAMETERS_KEY",
    "SAMPLER_NAMES",
    "Parameters",
    "parameters_of",
    "parse_parameters",
    "schedule_type",
    "write_parameters",
]

PARAMETERS_KEY = "parameters"
MAX_LENGTH = 100_000
"""Letters; web UIs' own texts have some hundreds."""

SAMPLER_NAMES: Mapping[str, str] = {
    "ddim": "DDIM",
    "euler": "Euler",
    "dpmpp_2m": "DPM++ 2M",
    "heun": "Heun",
    "euler_ancestral": "Euler a",
    "ddpm": "DDPM",
    "plms": "PLMS",
    "pndm": "PNDM",
    "lms": "LMS",
    "dpm2": "DPM2",
    "dpm2_ancestral": "DPM2 a",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpmpp_3m": "DPM++ 3M",
    "dpmpp_2s": "DPM++ 2S",
    "dpmpp_3s": "DPM++ 3S",
    "unipc": "UniPC",
    "deis": "DEIS",
    "lcm": "LCM",
    "tcd": "TCD",
}
"""Ours -> theirs, as far as they have it."""

SIGMA_NAMES: Mapping[str, str] = {
    "karras": "Karras",
    "exponential": "Exponential",
    "beta": "Beta",
    "simple": "Simple",
    "sgm_uniform": "SGM Uniform",
    "ays": "Align Your Steps",
    "ays_sdxl": "Align Your Steps",
}
"""Ours -> theirs."""

_NEGATIVE = "Negative prompt:"
# One `Key: value` with the comma or the end behind it. A value in quotes may hold commas.
_ITEM = re.compile(r'([^:,"]*):\s*("(?:[^"\\]|\\.)*"(?=\s*(?:,|$))|[^,]*)\s*(?:,|$)')
# In prompts there these weigh words, unless a backslash stands before them.
_WEIGHING = re.compile(r"[\\()\[\]]")


@dataclass(frozen=True)
class Parameters:
    """What the text says: prompts in their syntax, settings by their names, in order, all as text."""

    prompt: str
    negative: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


def write_parameters(parameters: Parameters) -> str:
    """The text; values are quoted as there, where they hold a comma, a colon or the end of a line."""
    lines = [parameters.prompt]
    if parameters.negative:
        lines.append(f"{_NEGATIVE} {parameters.negative}")
    lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in parameters.settings.items()))
    return "\n".join(lines).strip()


def parse_parameters(text: str) -> Parameters:
    """The parts of a text, none of them checked. UserError for one longer than any that a web UI writes."""
    if len(text) > MAX_LENGTH:
        raise UserError(f"the parameters text has {len(text)} letters, at most {MAX_LENGTH} are read")
    lines = text.strip().split("\n")
    settings = dict(_items(lines[-1]))
    if "Steps" in settings or len(settings) >= 3:
        lines.pop()
    else:  # a prompt alone, which may hold a colon or two
        settings = {}
    first = next((i for i, line in enumerate(lines) if line.strip().startswith(_NEGATIVE)), len(lines))
    negative = "\n".join(line.strip() for line in lines[first:]).removeprefix(_NEGATIVE).strip()
    return Parameters("\n".join(line.strip() for line in lines[:first]), negative, settings)


def parameters_of(record: PictureRecord, config: PlanConfig) -> Parameters:
    """What web UIs can know of a picture painted here; `config` is that of its plan."""
    request = record.request
    sampling, canvas = request.sampling, request.canvas
    sampler = sampling.sampler or "ddim"
    # Of a single file its own hash, as there; of a folder that of the part which makes the difference.
    places = [path for path in record.model.weights if path.startswith("unet/") or "/" not in path]
    unet = next((record.model.weights[path] for path in places), "")
    settings = {
        "Steps": str(sampling.steps),
        "Sampler": SAMPLER_NAMES.get(sampler, sampler),
        "Schedule type": schedule_type(sampler, config),
        "CFG scale": str(request.guidance.weight).removesuffix(".0"),
        "Seed": str(record.seed),
        "Size": f"{canvas.width}x{canvas.height}",
        "Model hash": unet[:10],
        "Model": Path(request.model.name).name,
        "Denoising strength": str(request.start.strength).removesuffix(".0") if request.start.image else "",
        "RNG": "CPU",  # there, too, a picture's noise may come from the CPU's generator
        "Version": f"latentbrush {record.versions.get('latentbrush', '')}".strip(),
    }
    stated = {key: value for key, value in settings.items() if value}
    return Parameters(_escaped(request.prompt), _escaped(request.guidance.negative), stated)


def schedule_type(sampler: str, config: PlanConfig) -> str:
    """Their name for how the steps are spaced; '' where they have none."""
    if config.sigmas != "spaced" and find_sampler(sampler).paths:
        return SIGMA_NAMES[config.sigmas]
    if config.spacing == "leading":
        return "Automatic" if sampler == "ddim" else ""  # their DDIM has no other
    return {"linspace": "Uniform", "trailing": "SGM Uniform"}[config.spacing]


def _items(line: str) -> Iterator[tuple[str, str]]:
    """The settings of a line; what is none is passed over."""
    place = 0
    while place < len(line):
        found = _ITEM.match(line, place)
        if found is None:
            comma = line.find(",", place)
            place = len(line) if comma < 0 else comma + 1
            continue
        place = found.end()
        if found[1].strip():
            yield found[1].strip(), _unquoted(found[2].strip())


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search("[,:\n]", value) else value


def _unquoted(value: str) -> str:
    if len(value) < 2 or not value.startswith('"') or not value.endswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:  # quotes that are part of the value
        return value


def _escaped(prompt: str) -> str:
    return _WEIGHING.sub(r"\\\g<0>", prompt)
