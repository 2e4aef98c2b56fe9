"""FID's Inception as a feature extractor: of our own with published weights, or as the TorchScript file of StyleGAN."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from latentbrush.devices import whole_float32
from latentbrush.errors import UserError
from latentbrush.evaluation.extractor import ExtractorIdentity, Features, digest_of
from latentbrush.evaluation.resize import cleanly_resized, tensorflow_resized
from latentbrush.formats import load_inception
from latentbrush.nn import Inception

__all__ = ["InceptionExtractor", "InceptionResize", "ScriptedInception", "is_torchscript"]

InceptionResize = Literal["tensorflow", "clean"]
"""tensorflow: as the FID of Heusel et al. 2017, ADM, StyleGAN and torch-fidelity resize; clean: as clean-fid."""
RESIZES = {
    "tensorflow": "bilinear at corners, not antialiased (TensorFlow 1)",
    "clean": "bicubic, antialiased, not rounded (clean-fid)",
}
SIDE, WIDTH, CLASSES = 299, 2048, 1008
ARGUMENTS = ("return_features", "no_output_bias")
LEAST = torch.finfo(torch.float32).tiny
"""A probability that is smaller is taken for this, so that it has a logarithm."""


class InceptionExtractor:
    """`Features` of all three kinds: FID's and KID's (B, 2048), sFID's (B, 2023), and logits for IS (B, 1008).

    `path`: of weights under torchvision's names, pytorch-fid's pt_inception-2015-12-05-6726825d.pth or the same as
    safetensors, read as data. `resize`: which published figures they shall be compared with. UserError for what
    `load_inception` refuses.
    """

    def __init__(
        self, path: str | Path, device: torch.device | str = "cpu", *, resize: InceptionResize = "tensorflow"
    ) -> None:
        path = Path(path)
        self.network: Inception = load_inception(path)
        self.device = torch.device(device)
        self.network.to(self.device)
        self.identity, self.resize = _identity("Inception", path, resize), resize

    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> Features:
        pictures = pictures.to(self.device)
        way = tensorflow_resized if self.resize == "tensorflow" else cleanly_resized
        with whole_float32():
            found = self.network((way(pictures, SIDE) - 128) / 128)
        return Features(found.pooled.cpu(), found.spatial.cpu(), found.logits.cpu())


class ScriptedInception:
    """FID's Inception as a TorchScript program: NVIDIA's inception-2015-12-05.pt, of StyleGAN and clean-fid.

    TorchScript is a program, which torch runs, and which may read and write files: only a path that the user names
    comes here, and what the program is was for her to know. It must take (pictures, return_features=True), and give
    (B, 2048), and (pictures, no_output_bias=True), and give probabilities (B, 1008). Logits are their logarithms, in
    which IS is the same. It has no features of places.

    `classes`: does somebody want IS? Else the program is called once instead of twice, and `logits` are None.
    UserError for what is no such program, and for what it gives that is none of these.
    """

    def __init__(
        self,
        path: str | Path,
        device: torch.device | str = "cpu",
        *,
        resize: InceptionResize = "tensorflow",
        classes: bool = True,
    ) -> None:
        path = Path(path)
        self.path, self.device, self.resize, self.classes = path, torch.device(device), resize, classes
        self.program = _load(path, self.device)
        self.identity = _identity("Inception (TorchScript)", path, resize)

    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> Features:
        pictures = pictures.to(self.device)
        # The program resizes as TensorFlow does, which leaves as they are pictures that have the size.
        seen = pictures if self.resize == "tensorflow" else cleanly_resized(pictures, SIDE)
        with whole_float32():
            pooled = self._ask(seen, WIDTH, return_features=True)
            chances = self._ask(seen, CLASSES, no_output_bias=True) if self.classes else None
        return Features(pooled, logits=None if chances is None else chances.clamp(min=LEAST).log())

    def _ask(self, pictures: Tensor, width: int, **options: bool) -> Tensor:
        try:
            found = self.program(pictures, **options)
        except RuntimeError as error:
            last = str(error).strip().splitlines()[-1]
            raise UserError(f"{self.path} failed on pictures {tuple(pictures.shape)} ({last}); {_REMEDY}") from None
        if not isinstance(found, Tensor) or found.shape != (len(pictures), width):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UserError(f"{self.path} gave {shape}, needed is {(len(pictures), width)}; {_REMEDY}")
        return found.float().cpu()


_REMEDY = "give FID's inception-2015-12-05.pt"


def is_torchscript(path: Path) -> bool:
    """Is it a TorchScript program? Told by what lies in the archive; nothing is run."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.partition("/")[2].startswith("code/") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def _load(path: Path, device: torch.device) -> Any:
    """Any: programs have no types here."""
    if not is_torchscript(path):
        raise UserError(f"{path} is no TorchScript program; {_REMEDY}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch means to replace TorchScript; the published file is one
            program = torch.jit.load(path, map_location=device).eval()  # type: ignore[no-untyped-call]
        known = [argument.name for argument in program.forward.schema.arguments]
    except (RuntimeError, ValueError, OSError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path} cannot be loaded as TorchScript ({reason}); copy or download it again") from None
    for argument in ARGUMENTS:
        if argument not in known:
            raise UserError(f"{path} is a TorchScript program that takes {known}, not {argument}; {_REMEDY}")
    return program


def _identity(name: str, path: Path, resize: InceptionResize) -> ExtractorIdentity:
    if resize not in RESIZES:
        raise UserError(f"resize {resize!r} is unknown; choose one of {', '.join(RESIZES)}")
    return ExtractorIdentity(name, digest_of([path]), SIDE, RESIZES[resize], "float32")
