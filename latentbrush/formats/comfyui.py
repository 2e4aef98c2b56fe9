"""ComfyUI's `prompt` text, a graph of nodes as JSON -> `Parameters`, for graphs with one plain KSampler.

    {"3": {"class_type": "KSampler", "inputs": {"seed": 1, "positive": ["6", 0], ...}}, ...}

A list of a node's name and a number stands for that node's output.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from latentbrush.errors import UserError
from latentbrush.formats.parameters import MAX_LENGTH, SAMPLER_NAMES, Parameters

__all__ = ["COMFYUI_KEY", "NODE", "parse_comfyui"]

COMFYUI_KEY = "prompt"
DEPTH = 20
"""Nodes between a sampler and what it is asked for; a graph may lead in a circle."""
_OURS = {"dpm_2": "dpm2", "dpm_2_ancestral": "dpm2_ancestral", "uni_pc_bh2": "unipc"}
"""Its names for samplers that have others here; its uni_pc is of the kind bh1, ours of bh2."""

NODE = "Node "
"""Begins the settings that stand for nodes which nothing here does the work of."""

_PLAIN = {
    *("KSampler", "CheckpointLoaderSimple", "CLIPTextEncode", "EmptyLatentImage"),
    *("VAEDecode", "SaveImage", "PreviewImage"),
}
_OVER_A_PICTURE = {"LoadImage", "VAEEncode"}
_NOTHING = "ConditioningZeroOut"
"""Zeros in the place of words; the words before it have no say."""

_SCHEDULES = {"karras": "Karras", "normal": "Uniform", "sgm_uniform": "SGM Uniform"}


def parse_comfyui(text: str, name: str) -> Parameters:
    """What the graph's first KSampler is given, in the words of web UIs. UserError for a graph without one."""
    if len(text) > 10 * MAX_LENGTH:
        raise UserError(f"{name}: the graph has {len(text)} letters, at most {10 * MAX_LENGTH} are read")
    try:
        nodes = json.loads(text)
        json.dumps(nodes, ensure_ascii=False).encode()  # half a letter would fail wherever the prompt is written
    except (ValueError, RecursionError):
        raise UserError(
            f"{name}: the prompt it carries is no JSON in UTF-8; give a picture whose metadata is whole"
        ) from None
    samplers = [node for node in _nodes(nodes) if node.get("class_type") == "KSampler"]
    if not samplers:
        raise UserError(f"{name}: its graph has no KSampler node; only plain graphs of ComfyUI are read")
    given = _inputs(samplers[0])
    size = {key: _upstream(nodes, given.get("latent_image"), key) for key in ("width", "height")}
    sampler, spacing = given.get("sampler_name"), given.get("scheduler")
    settings = {
        "Steps": given.get("steps"),
        "Sampler": SAMPLER_NAMES.get(_OURS.get(sampler, sampler), sampler) if isinstance(sampler, str) else sampler,
        "Schedule type": _SCHEDULES.get(spacing, spacing) if isinstance(spacing, str) else spacing,
        "CFG scale": given.get("cfg"),
        "Seed": given.get("seed"),
        "Size": None if None in size.values() else f"{size['width']}x{size['height']}",
        "Model": _upstream(nodes, given.get("model"), "ckpt_name"),
        "Denoising strength": None if given.get("denoise") in (None, 1) else given["denoise"],
        "Further KSamplers": len(samplers) - 1 or None,
        "RNG": "CPU",
    }
    settings |= _others(nodes, over_a_picture=settings["Denoising strength"] is not None)
    prompts = [_upstream(nodes, given.get(side), "text", side) for side in ("positive", "negative")]
    positive, negative = (prompt if isinstance(prompt, str) else "" for prompt in prompts)
    return Parameters(positive, negative, {key: _told(value) for key, value in settings.items() if value is not None})


def _upstream(nodes: dict[str, Any], link: Any, key: str, side: str | None = None) -> Any:
    """The input `key` of the node that a link leads to, or of the nearest one further up; None if there is none.

    `side`: of the conditioning. Nodes that take both, as a ControlNet's does, are left by the input of its name.
    """
    links = [link]
    for _ in range(DEPTH):
        if not links:
            break
        reached = [nodes.get(link[0]) for link in links if _is_link(link)]
        given = [_inputs(node) for node in reached if isinstance(node, dict) and node.get("class_type") != _NOTHING]
        for inputs in given:
            if key in inputs and not isinstance(inputs[key], list):
                return inputs[key]
        further = [[inputs[side]] if side in inputs else inputs.values() for inputs in given]
        links = [value for values in further for value in values if _is_link(value)][:DEPTH]
    return None


def _others(nodes: dict[str, Any], *, over_a_picture: bool) -> dict[str, str]:
    """A setting for each class of nodes whose work is not done here."""
    known = _PLAIN | _OVER_A_PICTURE if over_a_picture else _PLAIN
    classes = Counter(str(node.get("class_type")) for node in _nodes(nodes))
    return {f"{NODE}{name}": f"{count} in the graph" for name, count in classes.items() if name not in known}


def _told(value: Any) -> str:
    return str(value) if isinstance(value, str | int | float) else "from another node"


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _nodes(graph: Any) -> list[dict[str, Any]]:
    return [node for node in graph.values() if isinstance(node, dict)] if isinstance(graph, dict) else []


def _inputs(node: dict[str, Any]) -> dict[str, Any]:
    inputs = node.get("inputs")
    return inputs if isinstance(inputs, dict) else {}
