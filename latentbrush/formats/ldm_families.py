"""The LDM paper's own models (Rombach et al. 2022) as single files: told from keys, and the settings they never state.

Figures are those of the configurations that CompVis published beside the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latentbrush.conditioning import WordPieceTokenizer
from latentbrush.conditioning.word_pieces import has_vocabulary
from latentbrush.diffusion import Prediction, Schedule
from latentbrush.errors import UserError
from latentbrush.files import write_json
from latentbrush.formats import configs
from latentbrush.formats.bert import write_bert_config
from latentbrush.formats.index import BERT, INDEX, Index, pipeline_name, write_index
from latentbrush.formats.scheduler import Scheduler, write_scheduler
from latentbrush.formats.store import TensorFile
from latentbrush.model import STABLE_DIFFUSION_PLAN
from latentbrush.nn import AutoencoderConfig, LDMBertConfig, UNetConfig

__all__ = ["LDM_TEXT", "VOCABULARY_NEEDED", "LDMFamily", "ldm_family_of", "write_ldm_family"]

VOCABULARY_NEEDED = (
    "LDM's text-to-image model reads BERT's vocabulary, which no such file holds; give a folder with the vocab.txt of "
    "bert-base-uncased (convert --config, in Python config=)"
)


@dataclass(frozen=True)
class LDMFamily:
    """A published architecture. `mark`: a key that its files alone have."""

    name: str
    mark: str
    unet: UNetConfig
    autoencoder: AutoencoderConfig
    text: LDMBertConfig
    schedule: Schedule


LDM_TEXT = LDMFamily(
    "LDM's text-to-image model",
    "cond_stage_model.transformer.token_emb.weight",
    UNetConfig(sample_size=32, context_width=1280),
    AutoencoderConfig(sample_size=256),
    LDMBertConfig(),
    Schedule(),
)
FAMILIES = (LDM_TEXT,)


def ldm_family_of(file: TensorFile) -> LDMFamily | None:
    """The family of a file that does not say so itself; None for one of another kind."""
    return next((family for family in FAMILIES if family.mark in file.entries), None)


def write_ldm_family(family: LDMFamily, directory: Path, prediction: Prediction, vocabulary: Path | None) -> None:
    """All settings of a model folder, as the family has them. `vocabulary`: a folder with that of BERT.

    UserError where the model reads words and the folder is missing, or not BERT's.
    """
    if vocabulary is None or not has_vocabulary(vocabulary):
        raise UserError(VOCABULARY_NEEDED)
    tokenizer = WordPieceTokenizer.from_folder(vocabulary, max_length=family.text.max_positions)
    tokenizer.save(directory / "tokenizer")
    scheduler = write_scheduler(Scheduler(family.schedule, prediction, "ddim", STABLE_DIFFUSION_PLAN))
    index = Index(
        pipeline_name("text-to-image", xl=False, aesthetic=False, bert=True),
        ("vqvae", "unet", BERT, "tokenizer"),
        str(scheduler["_class_name"]),
    )
    contents = {
        INDEX: write_index(index),
        "scheduler/scheduler_config.json": scheduler,
        "unet/config.json": configs.write_unet_config(family.unet),
        "vqvae/config.json": configs.write_autoencoder_config(family.autoencoder),
        f"{BERT}/config.json": write_bert_config(family.text, pad_id=tokenizer.pad_id),
    }
    for name, content in contents.items():
        (directory / name).parent.mkdir(exist_ok=True)
        write_json(directory / name, content)
