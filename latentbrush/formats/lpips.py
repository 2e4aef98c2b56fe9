"""LPIPS from its published files: torchvision's classifier, and the linear weights of the LPIPS package.

One file may hold both: an `LPIPS` module's whole state, or a safetensors of the two files' names together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from latentbrush.errors import UserError
from latentbrush.formats.empty import without_memory
from latentbrush.formats.store import Entry, TensorFile, open_tensors
from latentbrush.formats.weights import FLOATS, as_finite, listed
from latentbrush.nn.lpips import LPIPS, Backbone

__all__ = ["load_lpips"]

FIRST: dict[tuple[int, ...], Backbone] = {(64, 3, 3, 3): "vgg16", (64, 3, 11, 11): "alexnet"}
"""The shape of the first convolution tells which network it is."""
# A whole module's state names the layers by slice; its linear weights twice, and its constants.
FEATURE = re.compile(r"(?:features|net\.slice\d)\.(\d+\.(?:weight|bias))")
LINEAR = re.compile(r"lin(\d)\.model\.1\.weight")
IGNORED = re.compile(r"classifier\.\d+\.(?:weight|bias)|lins\.\d\.model\.1\.weight|scaling_layer\.(?:shift|scale)")


def load_lpips(backbone: str | Path, linear: str | Path | None = None) -> LPIPS:
    """LPIPS in eval mode and float32, its weights frozen; VGG16 or AlexNet, whichever `backbone` holds.

    `backbone`: torchvision's file of the classifier (`features.N.weight`), whose own layers behind the features are
    left out; `linear`: the LPIPS package's file (`lin0.model.1.weight`), None where `backbone` holds both. Either may
    be safetensors or torch.save's, which is read as data. Strict: UserError for whatever is missing, unknown, of a
    wrong shape or not finite.
    """
    files = [open_tensors(Path(path)) for path in (backbone, linear) if path is not None]
    found = _named(files)
    first = found.get("features.0.weight")
    if first is None or first[1].shape not in FIRST:
        shape = "is missing" if first is None else f"has the shape {list(first[1].shape)}"
        raise UserError(
            f"{backbone}: features.0.weight {shape}; give torchvision's weights of VGG16 or AlexNet, as published"
        )
    with without_memory():
        network = LPIPS(FIRST[first[1].shape])
    _fit(network, found, files[-1].path)
    state = {}
    for name, (file, entry) in found.items():
        tensor = as_finite(entry, file.read(entry.key), torch.float32)
        state[name] = tensor.flatten() if name.startswith("linear.") else tensor
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def _named(files: Sequence[TensorFile]) -> dict[str, tuple[TensorFile, Entry]]:
    """Our names -> where the tensors are."""
    found: dict[str, tuple[TensorFile, Entry]] = {}
    for file in files:
        for key, entry in file.entries.items():
            feature, line = FEATURE.fullmatch(key), LINEAR.fullmatch(key)
            if feature is not None:
                name = f"features.{feature[1]}"
            elif line is not None:
                name = f"linear.{line[1]}"
            elif IGNORED.fullmatch(key):
                continue
            else:
                raise UserError(f"{file.path} holds {key!r}, which is no part of LPIPS; give its published files")
            if name in found:
                raise UserError(f"{file.path} holds {key!r}, which {found[name][0].path} has already; give each once")
            found[name] = (file, entry)
    return found


def _fit(network: LPIPS, found: dict[str, tuple[TensorFile, Entry]], last: Path) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    missing = [_theirs(name) for name in wanted if name not in found]
    if missing:
        remedy = "give the LPIPS package's file for them, too" if missing[0].startswith("lin") else "download it again"
        raise UserError(f"{last} lacks {listed(missing)} that LPIPS by {network.backbone} needs; {remedy}")
    unused = [entry.key for name, (_, entry) in found.items() if name not in wanted]
    if unused:
        raise UserError(f"{last} holds {listed(unused)} that LPIPS by {network.backbone} has not; give one network's")
    for name, (file, entry) in found.items():
        expected = (1, *wanted[name], 1, 1) if name.startswith("linear.") else wanted[name]
        if entry.shape != expected:
            raise UserError(
                f"{file.path}: {entry.key} is {list(entry.shape)} instead of {list(expected)}; LPIPS by "
                f"{network.backbone} needs files that belong together"
            )
        if entry.dtype not in FLOATS:
            raise UserError(f"{file.path}: {entry.key} is {entry.dtype}; weights must be one of {', '.join(FLOATS)}")


def _theirs(name: str) -> str:
    return re.sub(r"^linear\.(\d)$", r"lin\1.model.1.weight", name)
