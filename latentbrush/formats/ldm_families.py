"""The LDM paper's own models (Rombach et al. 2022) as single files: told from keys, and the settings they never state.

Figures are those of the configurations that CompVis published beside the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentbrush.conditioning import WordPieceTokenizer
from latentbrush.conditioning.word_pieces import has_vocabulary
from latentbrush.diffusion import Prediction, Schedule
from latentbrush.errors import UserError
from latentbrush.files import write_json
from latentbrush.formats import configs
from latentbrush.formats.bert import write_bert_config
from latentbrush.formats.class_token import write_class_token_config
from latentbrush.formats.compvis import UNET_PREFIX, ema_key
from latentbrush.formats.index import INDEX, Index, write_index
from latentbrush.formats.kinds import BERT, CLASS_TOKEN, LDM_BERT, LDM_CLASSES, OWN_WORDLESS, Kind
from latentbrush.formats.ours import OURS, written_ours
from latentbrush.formats.pipelines import LDM_TEXT, OWN
from latentbrush.formats.scheduler import Scheduler, write_scheduler
from latentbrush.formats.store import TensorFile
from latentbrush.formats.unet2d import write_unet2d_config
from latentbrush.formats.vq import write_vq_config
from latentbrush.model import STABLE_DIFFUSION_PLAN, ModelDefaults
from latentbrush.nn import (
    AutoencoderConfig,
    ClassTokenConfig,
    LDMBertConfig,
    UNet2DConfig,
    UNetConfig,
    VQConfig,
)

__all__ = ["FAMILIES", "VOCABULARY_NEEDED", "LDMFamily", "ldm_family_of", "write_ldm_family"]

VOCABULARY_NEEDED = (
    "LDM's text-to-image model reads BERT's vocabulary, which no such file holds; give a folder with the vocab.txt of "
    "bert-base-uncased (convert --config, in Python config=)"
)


@dataclass(frozen=True)
class LDMFamily:
    """A published architecture. `marks`: keys that its files have;
    `told`: the tower or table of what it is told, if any; `guidance`: what CompVis's own scripts sampled with."""

    name: str
    marks: tuple[str, ...]
    unet: UNetConfig | UNet2DConfig
    stage: AutoencoderConfig | VQConfig
    told: LDMBertConfig | ClassTokenConfig | None
    schedule: Schedule
    guidance: float = 1.0

    @property
    def side(self) -> int:
        """Pixels."""
        return self.unet.sample_size * self.stage.factor

    @property
    def kind(self) -> Kind:
        if self.told is None:
            return OWN_WORDLESS
        return LDM_BERT if isinstance(self.told, LDMBertConfig) else LDM_CLASSES


CODEBOOK = "first_stage_model.quantize.embedding.weight"
FAMILIES = (
    LDMFamily(
        "LDM's text-to-image model",
        ("cond_stage_model.transformer.token_emb.weight",),
        UNetConfig(sample_size=32, context_width=1280),
        AutoencoderConfig(sample_size=256),
        LDMBertConfig(),
        Schedule(),
    ),
    LDMFamily(
        "LDM's class-conditional model of ImageNet",
        ("cond_stage_model.embedding.weight", CODEBOOK),
        UNetConfig(
            in_channels=3,
            out_channels=3,
            channels=(192, 384, 576, 960),
            attention=(False, True, True, True),
            heads=(1, 1, 1, 1),
            context_width=512,
        ),
        VQConfig(),
        ClassTokenConfig(),
        Schedule(beta_start=0.0015, beta_end=0.0195),
        guidance=3.0,
    ),
    LDMFamily(
        "LDM's inpainting model",
        (f"{UNET_PREFIX}middle_block.1.qkv.weight", f"{UNET_PREFIX}input_blocks.3.0.in_layers.0.weight", CODEBOOK),
        UNet2DConfig(
            sample_size=64,
            in_channels=7,
            channels=(256, 512, 768, 1024),
            attention=(False, True, True, True),
            residual=(True, True, True, True),
            heads=8,
            symmetric=True,
            norm_eps=1e-5,
            flip_sin_to_cos=True,
            freq_shift=0.0,
        ),
        VQConfig(mid_attention=False),
        None,
        Schedule(beta_start=0.0015, beta_end=0.0205),
    ),
)


def ldm_family_of(file: TensorFile) -> LDMFamily | None:
    """The family of a file that does not say so itself; None for one of another kind."""

    def has(key: str) -> bool:
        return key in file.entries or ema_key(key) in file.entries

    return next((family for family in FAMILIES if all(has(mark) for mark in family.marks)), None)


def write_ldm_family(family: LDMFamily, directory: Path, prediction: Prediction, vocabulary: Path | None) -> None:
    """All settings of a model folder, as the family has them. `vocabulary`: a folder with that of BERT.

    UserError where the model reads words and the folder is missing, or not BERT's.
    """
    scheduler = write_scheduler(Scheduler(family.schedule, prediction, "ddim", STABLE_DIFFUSION_PLAN))
    told = _told(family, directory, vocabulary)
    pipeline = LDM_TEXT if family.kind is LDM_BERT else OWN
    parts = family.kind.parts_of(("vqvae", "unet", *told))
    index = Index(family.kind, pipeline, parts, str(scheduler["_class_name"]))
    defaults = ModelDefaults(steps=50, guidance=family.guidance, width=family.side, height=family.side)
    contents: dict[str, Mapping[str, Any]] = {
        INDEX: write_index(index),
        "scheduler/scheduler_config.json": scheduler,
        "unet/config.json": _unet(family.unet),
        "vqvae/config.json": _stage(family.stage),
        OURS: written_ours(defaults, eta=0.0),
        **{f"{part}/config.json": config for part, config in told.items()},
    }
    for name, content in contents.items():
        (directory / name).parent.mkdir(exist_ok=True)
        write_json(directory / name, content)


def _told(family: LDMFamily, directory: Path, vocabulary: Path | None) -> dict[str, dict[str, Any]]:
    """Part -> the configuration of the tower or table; writes the tokeniser, where there is one."""
    if family.told is None:
        return {}
    if isinstance(family.told, ClassTokenConfig):
        return {CLASS_TOKEN: write_class_token_config(family.told)}
    if vocabulary is None or not has_vocabulary(vocabulary):
        raise UserError(VOCABULARY_NEEDED)
    tokenizer = WordPieceTokenizer.from_folder(vocabulary, max_length=family.told.max_positions)
    tokenizer.save(directory / "tokenizer")
    return {BERT: write_bert_config(family.told, pad_id=tokenizer.pad_id)}


def _unet(config: UNetConfig | UNet2DConfig) -> dict[str, Any]:
    return write_unet2d_config(config) if isinstance(config, UNet2DConfig) else configs.write_unet_config(config)


def _stage(config: AutoencoderConfig | VQConfig) -> dict[str, Any]:
    return write_vq_config(config) if isinstance(config, VQConfig) else configs.write_autoencoder_config(config)
