"""The text conditioner's part of a model's folder: towers and tokenisers, one of each or two."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from latentbrush.conditioning import LabelConditioner, TextConditioner, Tokenizer, XLTextConditioner
from latentbrush.formats.clip_configs import read_projected_text_config, write_projected_text_config
from latentbrush.formats.configs import read_text_config, write_text_config
from latentbrush.formats.index import Index
from latentbrush.formats.network import Fill, read_network, write_network
from latentbrush.nn import CLIPTextModel, ProjectedTextModel

__all__ = ["read_text", "text_networks", "write_text"]


def read_text(directory: Path, index: Index, fill: Fill) -> TextConditioner | XLTextConditioner:
    """The conditioner of a folder with these parts; `fill` gives its towers their weights."""
    first = None
    if "text_encoder" in index.parts:
        readers = (read_text_config, CLIPTextModel)
        tower = read_network("text_encoder", directory / "text_encoder", readers, fill)
        positions = tower.config.max_positions
        first = TextConditioner(Tokenizer.from_folder(directory / "tokenizer", positions=positions), tower)
    if not index.is_xl:
        assert first is not None
        return first.eval()
    projected = (read_projected_text_config, ProjectedTextModel)
    second = read_network("text_encoder_2", directory / "text_encoder_2", projected, fill)
    tokenizer = Tokenizer.from_folder(directory / "tokenizer_2", positions=second.config.text.max_positions)
    return XLTextConditioner(first, tokenizer, second, zero_empty=index.zero_empty).eval()


def write_text(
    directory: Path, text: TextConditioner | XLTextConditioner | LabelConditioner, dtype: torch.dtype
) -> None:
    if isinstance(text, LabelConditioner):
        return
    first = text if isinstance(text, TextConditioner) else text.first
    if first is not None:
        tokenizer = first.tokenizer
        ids = {"bos_id": tokenizer.bos_id, "eos_id": tokenizer.eos_id, "pad_id": tokenizer.pad_id}
        config = write_text_config(first.encoder.config, **ids)
        write_network("text_encoder", directory / "text_encoder", first.encoder, config, dtype)
        tokenizer.save(directory / "tokenizer")
    if isinstance(text, XLTextConditioner):
        tokenizer, tower = text.tokenizer, text.encoder
        config = write_projected_text_config(tower.config, bos_id=tokenizer.bos_id, pad_id=tokenizer.pad_id)
        write_network("text_encoder_2", directory / "text_encoder_2", tower, config, dtype)
        tokenizer.save(directory / "tokenizer_2")


def text_networks(text: TextConditioner | XLTextConditioner | LabelConditioner) -> dict[str, nn.Module]:
    """Part -> tower; none without words."""
    if isinstance(text, LabelConditioner):
        return {}
    if isinstance(text, TextConditioner):
        return {"text_encoder": text.encoder}
    first: dict[str, nn.Module] = {} if text.first is None else {"text_encoder": text.first.encoder}
    return first | {"text_encoder_2": text.encoder}
