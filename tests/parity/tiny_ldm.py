"""Tiny models of the LDM paper with random weights, built by diffusers and transformers themselves."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler, LDMTextToImagePipeline
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from tiny import randomise, tiny_autoencoder, tiny_scheduler, tiny_unet
from transformers import BertTokenizer

WIDTH = 24
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    *("a", "red", "blue", "cat", "dog", "on", "the", "sofa", "caf", "heart", "빨", "간", "猫", ",", ".", "'", "-", "!"),
    *("##e", "##s", "##ing", "##ly", "##t", "##a", "##red", "u", "##n", "##do", "paint", "s", "it", "0", "##1"),
)
VOCABULARY = (*SPECIAL, *WORDS)


def write_vocabulary(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8")
    return directory


def tiny_bert_tokenizer() -> BertTokenizer:
    with tempfile.TemporaryDirectory() as directory:
        return BertTokenizer.from_pretrained(write_vocabulary(Path(directory)))


def tiny_bert(seed: int = 0, **changes: Any) -> LDMBertModel:
    """Its heads together are narrower than its tokens, as the published one's."""
    config = {
        "vocab_size": len(VOCABULARY),
        "d_model": WIDTH,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "head_dim": 5,
        "encoder_ffn_dim": 40,
        **changes,
    }
    tower = LDMBertModel(LDMBertConfig(**config)).eval()
    randomise(tower, seed)
    return tower


def tiny_ldm(seed: int = 0, scheduler: type = DDIMScheduler, **scheduler_changes: Any) -> LDMTextToImagePipeline:
    """A whole pipeline in float32; pictures are 64 x 64, latents 8 x 8 x 4: the pipeline knows no factor but 8."""
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    pipeline = LDMTextToImagePipeline(
        vqvae=tiny_autoencoder(seed + 2, block_out_channels=(8, 8, 16, 16), sample_size=64, **levels),
        bert=tiny_bert(seed),
        tokenizer=tiny_bert_tokenizer(),
        unet=tiny_unet("sd1", seed + 1, cross_attention_dim=WIDTH),
        scheduler=tiny_scheduler("sd1", scheduler, **scheduler_changes),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
