"""The text conditioner's part of a model's folder: towers and tokenisers, one of each or two."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from latentbrush.conditioning import (
    ClassTokenConditioner,
    LabelConditioner,
    TextConditioner,
    Tokenizer,
    WordPieceTokenizer,
    XLTextConditioner,
)
from latentbrush.formats.bert import read_bert_config, write_bert_config
from latentbrush.formats.class_token import read_class_token_config, write_class_token_config
from latentbrush.formats.clip_configs import read_projected_text_config, write_projected_text_config
from latentbrush.formats.configs import read_text_config, write_text_config
from latentbrush.formats.index import Index
from latentbrush.formats.kinds import BERT, CLASS_TOKEN, LDM_BERT, LDM_CLASSES, XL
from latentbrush.formats.network import Fill, read_network, write_network
from latentbrush.nn import ClassToken, CLIPTextModel, LDMBertModel, ProjectedTextModel

__all__ = ["bert_tokenizer", "read_text", "text_networks", "write_text"]

PROMPT = 77
"""Tokens that diffusers' LDMTextToImagePipeline makes of every prompt, whatever the tokeniser's own limit is."""


def read_text(directory: Path, index: Index, fill: Fill) -> TextConditioner | XLTextConditioner | ClassTokenConditioner:
    """The conditioner of a folder with these parts; `fill` gives its towers, or its table, their weights."""
    if index.kind is LDM_CLASSES:
        of_classes = (read_class_token_config, ClassToken)
        return ClassTokenConditioner(read_network(CLASS_TOKEN, directory / CLASS_TOKEN, of_classes, fill)).eval()
    if index.kind is LDM_BERT:
        bert = read_network(BERT, directory / BERT, (read_bert_config, LDMBertModel), fill)
        return TextConditioner(bert_tokenizer(directory, bert.config.max_positions), bert).eval()
    first = None
    if "text_encoder" in index.parts:
        readers = (read_text_config, CLIPTextModel)
        tower = read_network("text_encoder", directory / "text_encoder", readers, fill)
        positions = tower.config.max_positions
        first = TextConditioner(Tokenizer.from_folder(directory / "tokenizer", positions=positions), tower)
    if index.kind is not XL:
        assert first is not None
        return first.eval()
    projected = (read_projected_text_config, ProjectedTextModel)
    second = read_network("text_encoder_2", directory / "text_encoder_2", projected, fill)
    tokenizer = Tokenizer.from_folder(directory / "tokenizer_2", positions=second.config.text.max_positions)
    return XLTextConditioner(first, tokenizer, second, zero_empty=index.zero_empty).eval()


def write_text(
    directory: Path, text: TextConditioner | XLTextConditioner | LabelConditioner, dtype: torch.dtype
) -> None:
    if isinstance(text, ClassTokenConditioner):
        table = write_class_token_config(text.encoder.config)
        write_network(CLASS_TOKEN, directory / CLASS_TOKEN, text.encoder, table, dtype)
    if isinstance(text, LabelConditioner):
        return
    first = text if isinstance(text, TextConditioner) else text.first
    if first is not None and isinstance(first.encoder, LDMBertModel):
        bert = write_bert_config(first.encoder.config, pad_id=first.tokenizer.pad_id)
        write_network(BERT, directory / BERT, first.encoder, bert, dtype)
        first.tokenizer.save(directory / "tokenizer")
    elif first is not None:
        assert isinstance(first.encoder, CLIPTextModel)
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
    """Part -> tower, or table of classes; none without either."""
    if isinstance(text, ClassTokenConditioner):
        return {CLASS_TOKEN: text.encoder}
    if isinstance(text, LabelConditioner):
        return {}
    if isinstance(text, TextConditioner):
        return {BERT if text.reads_bert else "text_encoder": text.encoder}
    first: dict[str, nn.Module] = {} if text.first is None else {"text_encoder": text.first.encoder}
    return first | {"text_encoder_2": text.encoder}


def bert_tokenizer(directory: Path, positions: int) -> WordPieceTokenizer:
    """That of a folder of LDM's text-to-image model, whose tower has so many positions."""
    return WordPieceTokenizer.from_folder(directory / "tokenizer", max_length=min(PROMPT, positions))
