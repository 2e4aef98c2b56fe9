"""Which model a single file holds, told from its keys and shapes, and the settings that files of it never state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from latentbrush.conditioning.published import clip_tokenizer
from latentbrush.diffusion import Prediction, Schedule
from latentbrush.errors import UserError
from latentbrush.files import write_json
from latentbrush.formats import configs
from latentbrush.formats.compvis import UNET_PREFIX, ema_key
from latentbrush.formats.folder import INDEX, index_of
from latentbrush.formats.scheduler import Scheduler, write_scheduler
from latentbrush.formats.store import TensorFile
from latentbrush.formats.weights import Entry
from latentbrush.model import STABLE_DIFFUSION_PLAN
from latentbrush.nn import AutoencoderConfig, CLIPTextConfig, UNetConfig

__all__ = ["Family", "family_of", "write_family"]


@dataclass(frozen=True)
class Family:
    """A published architecture. `doubt`: what is assumed of its prediction type, for no shape tells it."""

    name: str
    unet: UNetConfig
    autoencoder: AutoencoderConfig
    text: CLIPTextConfig
    prediction: Prediction = "epsilon"
    doubt: str = ""
    pad: str = "<|endoftext|>"


OPEN_CLIP_H = CLIPTextConfig(width=1024, layers=23, heads=16, mlp_width=4096, activation="gelu")
"""Without its last layer: Stable Diffusion 2 reads what the one before it says."""
FAMILIES: Mapping[int, Family] = {
    768: Family("Stable Diffusion 1", UNetConfig(), AutoencoderConfig(), CLIPTextConfig()),
    1024: Family(
        "Stable Diffusion 2",
        UNetConfig(sample_size=96, heads=(5, 10, 20, 20), context_width=1024, linear_projection=True),
        AutoencoderConfig(sample_size=768),
        OPEN_CLIP_H,
        prediction="v_prediction",
        doubt="assumed, as of the 768-pixel models; --prediction epsilon for the 512-pixel base ones",
        pad="!",
    ),
}
"""By the width of the context."""
SIDE = {"v_prediction": 96, "epsilon": 64, "sample": 64}
"""Latent side that the two kinds of Stable Diffusion 2 were trained at."""

MODELSPEC: Mapping[str, Prediction] = {"epsilon": "epsilon", "v": "v_prediction"}
"""What headers after Stability's metadata specification say of the prediction type."""
CONTEXT = UNET_PREFIX + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
FIRST, LAST = UNET_PREFIX + "input_blocks.0.0.weight", UNET_PREFIX + "out.2.weight"
# Parts of keys of files that are often taken for such a checkpoint, and what they are.
OTHERS = (
    ("conditioner.embedders.", "a Stable Diffusion XL checkpoint, which is not supported yet"),
    ("joint_blocks.", "a Stable Diffusion 3 checkpoint, which is not supported"),
    ("double_blocks.", "a FLUX checkpoint, which is not supported"),
    ("control_model.", "a ControlNet, not a whole model"),
    ("lora_", "a LoRA, not a whole model"),
    ("lora.", "a LoRA, not a whole model"),
    ("string_to_param", "a textual inversion, not a whole model"),
    ("emb_params", "a textual inversion, not a whole model"),
    ("down_blocks.", "the weights of one part of a diffusers folder; give the folder itself"),
    ("text_model.encoder.", "the weights of a text tower alone, not a whole model"),
    ("decoder.up.", "an autoencoder alone, not a whole model"),
)


def family_of(file: TensorFile, prediction: Prediction | None) -> Family:
    """The family of a file that does not say so itself; `prediction` overrides what is assumed of it.

    UserError for files of other kinds, which says what they are where that is known.
    """
    first, context, last = (_entry(file, key) for key in (FIRST, CONTEXT, LAST))
    if any(key.startswith("conditioner.embedders.") for key in file.entries) or not (first and context and last):
        raise UserError(f"{file.path} is {_what(file)}; give a checkpoint of Stable Diffusion 1 or 2")
    width = context.shape[-1]
    if width not in FAMILIES:
        known = ", ".join(f"{width} ({family.name})" for width, family in FAMILIES.items())
        raise UserError(
            f"{file.path}: its UNet reads a context of width {width}, known are {known}; "
            "give the folder of its settings (--config, in Python config=)"
        )
    family = FAMILIES[width]
    if prediction is None:
        prediction = MODELSPEC.get(file.metadata.get("modelspec.prediction_type", ""))
    if prediction is not None:
        family = replace(family, prediction=prediction, doubt="")
    given = first.shape[1] if len(first.shape) == 4 else 4
    side = SIDE[family.prediction] if family.name == "Stable Diffusion 2" else 64
    autoencoder = replace(family.autoencoder, sample_size=side * family.autoencoder.factor)
    unet = replace(family.unet, sample_size=side, in_channels=given, out_channels=last.shape[0])
    return replace(family, unet=unet, autoencoder=autoencoder)


def _entry(file: TensorFile, key: str) -> Entry | None:
    found = file.entries.get(key) or file.entries.get(ema_key(key))
    return found if found and found.shape and min(found.shape) > 0 else None


def _what(file: TensorFile) -> str:
    for mark, what in OTHERS:
        if any(mark in key for key in file.entries):
            return what
    return "no checkpoint of a known model"


def write_family(family: Family, directory: Path) -> None:
    """All settings of a model folder, as the family has them."""
    tokenizer = clip_tokenizer(family.pad)
    ids = {"bos_id": tokenizer.bos_id, "eos_id": tokenizer.eos_id, "pad_id": tokenizer.pad_id}
    scheduler = write_scheduler(Scheduler(Schedule(), family.prediction, "ddim", STABLE_DIFFUSION_PLAN))
    for name, content in {
        INDEX: index_of(str(scheduler["_class_name"])),
        "scheduler/scheduler_config.json": scheduler,
        "unet/config.json": configs.write_unet_config(family.unet),
        "vae/config.json": configs.write_autoencoder_config(family.autoencoder),
        "text_encoder/config.json": configs.write_text_config(family.text, **ids),
    }.items():
        (directory / name).parent.mkdir(exist_ok=True)
        write_json(directory / name, content)
    tokenizer.save(directory / "tokenizer")
