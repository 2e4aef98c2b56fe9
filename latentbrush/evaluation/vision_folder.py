"""Any vision model of transformers as a feature extractor, from its folder: DINOv2, ViT, SigLIP, ConvNeXt, ...

The one place that imports transformers, and that only when a folder is opened: the extra `features` brings it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentbrush.devices import whole_float32
from latentbrush.errors import UserError
from latentbrush.evaluation.extractor import ExtractorIdentity, Features, digest_of
from latentbrush.evaluation.preprocessing import PREPROCESSOR, read_preprocessing
from latentbrush.files import read_json
from latentbrush.formats.links import refuse_links_out
from latentbrush.formats.weights import find_weights, listed

__all__ = ["VisionExtractor"]

PLACED = 7
"""Channels of the places, as sFID takes of Inception."""


class VisionExtractor:
    """`Features` by a folder of transformers: config.json, preprocessor_config.json, weights as safetensors.

    `pooled` is what the model itself makes of the whole picture (`pooler_output`; DINOv2's is the class token after
    the last norm, which FD-DINOv2 compares, Stein et al. 2023), or the mean over places where it makes nothing, or its
    weights for that are not in the folder. `spatial`: the first 7 channels of every place, place by place, where the
    model's last layer has places. There are no `logits`.

    Pictures are prepared as the folder says, so that figures hold for that folder. Stein et al.'s code squeezes to
    224 x 224 and cuts nothing; published DINOv2 folders make the shorter side 256 and cut 224 x 224 from the middle.
    No code of the folder is run. UserError for whatever is missing, broken, or no vision model.
    """

    def __init__(self, directory: str | Path, device: torch.device | str = "cpu") -> None:
        path = Path(directory)
        refuse_links_out(path)
        self.path, self.device = path, torch.device(device)
        kind = read_json(path / "config.json").get("model_type")
        self.prepare = read_preprocessing(path / PREPROCESSOR)
        files = _weights(path)
        self.model, self._pools = _load(path)
        self.model.to(self.device)
        self.identity = ExtractorIdentity(
            name=f"{kind} {path.resolve().name}",
            digest=digest_of(files),
            side=self.prepare.side,
            resize=self.prepare.told,
            precision="float32",
        )

    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> Features:
        seen = self.prepare(pictures).to(self.device)
        try:
            with whole_float32():
                out = self.model(pixel_values=seen)
        except ValueError as error:  # so it says that it knows another size
            raise UserError(
                f"{self.path} cannot read pictures {tuple(seen.shape)} ({error}); correct the size in {PREPROCESSOR}"
            ) from None
        last = out.last_hidden_state
        whole = getattr(out, "pooler_output", None) if self._pools else None
        if whole is None:
            whole = last.mean((2, 3)) if last.ndim == 4 else last.mean(1)
        places = self._places(last, seen.shape[-2], seen.shape[-1])
        return Features(whole.flatten(1).float().cpu(), None if places is None else places.float().cpu())

    def _places(self, last: Tensor, height: int, width: int) -> Tensor | None:
        """(B, 7 * places), row by row, from tokens or a map of channels."""
        if last.ndim == 4:
            return last[:, :PLACED].permute(0, 2, 3, 1).flatten(1)
        config = self.model.config
        patch = getattr(config, "patch_size", None)
        if last.ndim != 3 or not isinstance(patch, int):
            return None
        # Before the patches stand a class token and, in some, registers; others have none.
        before = last.shape[1] - (height // patch) * (width // patch)
        if before not in (0, 1, 1 + (getattr(config, "num_register_tokens", 0) or 0)):
            return None
        return last[:, before:, :PLACED].flatten(1)


def _weights(path: Path) -> list[Path]:
    """In the order of their names."""
    if not any((path / f"model.safetensors{end}").is_file() for end in ("", ".index.json")):
        raise UserError(f"{path / 'model.safetensors'} is missing; get the folder with its weights as safetensors")
    return find_weights(path, "model")


def _load(path: Path) -> tuple[Any, bool]:
    """The model, in eval mode and float32, and whether its pooler's weights are there. Any: transformers' own types
    would have its whole sources checked."""
    try:
        from transformers import AutoModel
    except ImportError:
        raise UserError(
            f"{path} is a model of transformers, which is not installed; pip install 'latentbrush[features]'"
        ) from None
    try:
        with _quietly():
            model, info = AutoModel.from_pretrained(
                path, local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
    except Exception as error:  # whatever the readers of some hundred kinds of models meet
        raise UserError(f"{path} cannot be opened with transformers ({_first_line(error)}); copy it again") from None
    tower = getattr(model, "vision_model", model)  # of those that read words, too
    if tower.main_input_name != "pixel_values":
        raise UserError(f"{path} is a {type(model).__name__}, which reads no pictures; give a vision model's folder")
    # transformers draws at random what is missing, and only warns.
    missing = sorted(info["missing_keys"])
    absent = [key for key in missing if "pooler" not in key.split(".")]
    if absent:
        raise UserError(f"{path} lacks {listed(absent)} of {type(model).__name__}; copy the whole folder again")
    return tower.float().eval(), not missing


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def _quietly() -> Iterator[None]:
    """Without transformers' report of the heads that the folder holds and features do not need, and its bars."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
