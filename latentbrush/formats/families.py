"""Which model a single file holds, told from its keys and shapes, and the settings that files of it never state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latentbrush.conditioning import Augmentation, find_task
from latentbrush.conditioning.published import clip_tokenizer
from latentbrush.diffusion import Prediction, Schedule
from latentbrush.errors import UserError
from latentbrush.files import write_json
from latentbrush.formats import configs
from latentbrush.formats.clip_configs import write_projected_text_config
from latentbrush.formats.compvis import UNET_PREFIX, ema_key
from latentbrush.formats.index import INDEX, LOW_RES, Index, write_index
from latentbrush.formats.kinds import STABLE_DIFFUSION, TOWERS, XL
from latentbrush.formats.pipelines import pipeline_name
from latentbrush.formats.scheduler import Scheduler, write_scheduler
from latentbrush.formats.store import Entry, TensorFile
from latentbrush.model import STABLE_DIFFUSION_PLAN
from latentbrush.nn import AutoencoderConfig, CLIPTextConfig, ProjectedTextConfig, UNetConfig

__all__ = ["Family", "family_of", "write_family"]


PUBLISHED_SCHEDULE = Schedule()


@dataclass(frozen=True)
class Family:
    """A published architecture. `text`, `second`: its one or two towers. `doubt`: what is assumed of its prediction
    type, for no shape tells it. `pad`: with what its tokeniser fills up, of two the first. `augmentation`: of an
    upscaler's small pictures."""

    name: str
    unet: UNetConfig
    autoencoder: AutoencoderConfig
    text: CLIPTextConfig | None
    second: ProjectedTextConfig | None = None
    prediction: Prediction = "epsilon"
    doubt: str = ""
    pad: str = "<|endoftext|>"
    schedule: Schedule = PUBLISHED_SCHEDULE
    augmentation: Augmentation | None = None


OPEN_CLIP_H = CLIPTextConfig(width=1024, layers=23, heads=16, mlp_width=4096, activation="gelu")
"""Without its last layer: Stable Diffusion 2 reads what the one before it says."""
OPEN_CLIP_G = ProjectedTextConfig(
    CLIPTextConfig(width=1280, layers=32, heads=20, mlp_width=5120, activation="gelu"), projection=1280
)
XL_AUTOENCODER = AutoencoderConfig(scaling_factor=0.13025, sample_size=1024)
XL_UNET = UNetConfig(
    sample_size=128,
    channels=(320, 640, 1280),
    attention=(False, True, True),
    heads=(5, 10, 20),
    depth=(1, 2, 10),
    context_width=2048,
    linear_projection=True,
    added_width=2816,
)
REFINER_UNET = UNetConfig(
    sample_size=128,
    channels=(384, 768, 1536, 1536),
    attention=(False, True, True, False),
    heads=(6, 12, 24, 24),
    depth=(4, 4, 4, 4),
    context_width=1280,
    linear_projection=True,
    added_width=2560,
)
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
    2048: Family("Stable Diffusion XL", XL_UNET, XL_AUTOENCODER, CLIPTextConfig(), OPEN_CLIP_G),
    1280: Family("Stable Diffusion XL's refiner", REFINER_UNET, XL_AUTOENCODER, None, OPEN_CLIP_G),
}
"""By the width of the context."""
UPSCALER = Family(
    "Stable Diffusion's x4 upscaler",
    UNetConfig(
        sample_size=128,
        in_channels=7,
        channels=(256, 512, 512, 1024),
        attention=(False, True, True, True),
        context_width=1024,
        linear_projection=True,
        classes=1000,
        only_cross=(True, True, True, False),
    ),
    AutoencoderConfig(channels=(128, 256, 512), scaling_factor=0.08333, sample_size=256),
    OPEN_CLIP_H,
    prediction="v_prediction",
    pad="!",
    schedule=Augmentation().schedule,
    augmentation=Augmentation(),
)
"""Its context is that of Stable Diffusion 2; its labels tell it apart."""
SIDE = {"v_prediction": 96, "epsilon": 64, "sample": 64}
"""Latent side that the two kinds of Stable Diffusion 2 were trained at."""
XL_PLAN: Mapping[str, Any] = {"spacing": "leading", "steps_offset": 1}

MODELSPEC: Mapping[str, Prediction] = {"epsilon": "epsilon", "v": "v_prediction"}
"""What headers after Stability's metadata specification say of the prediction type."""
CONTEXTS = tuple(f"{UNET_PREFIX}input_blocks.{n}.1.transformer_blocks.0.attn2.to_k.weight" for n in (1, 4))
"""Of the finest level that has attention; in Stable Diffusion XL the second."""
V_MARK, ZERO_SNR_MARK = "v_pred", "ztsnr"
"""Tensors without meaning, by which some Stable Diffusion XL models say how they were trained."""
LABELS = UNET_PREFIX + "label_emb.weight"
FIRST, LAST = UNET_PREFIX + "input_blocks.0.0.weight", UNET_PREFIX + "out.2.weight"
# Parts of keys of files that are often taken for such a checkpoint, and what they are.
OTHERS = (
    ("joint_blocks.", "a Stable Diffusion 3 checkpoint, which is not supported"),
    ("double_blocks.", "a FLUX checkpoint, which is not supported"),
    ("control_model.", "a ControlNet, not a whole model"),
    ("lora_", "a LoRA, not a whole model"),
    ("lora.", "a LoRA, not a whole model"),
    ("string_to_param", "a textual inversion, not a whole model"),
    ("emb_params", "a textual inversion, not a whole model"),
    ("down_blocks.", "the weights of one part of a diffusers folder, not the whole folder"),
    ("text_model.encoder.", "the weights of a text tower alone, not a whole model"),
    ("decoder.up.", "an autoencoder alone, which painting takes by --vae, not a whole model"),
)


def family_of(file: TensorFile, prediction: Prediction | None) -> Family:
    """The family of a file that does not say so itself; `prediction` overrides what is assumed of it.

    UserError for files of other kinds, which says what they are where that is known.
    """
    first, last = _entry(file, FIRST), _entry(file, LAST)
    context = _entry(file, CONTEXTS[0]) or _entry(file, CONTEXTS[1])
    if not (first and context and last):
        raise unknown(file)
    width = context.shape[-1]
    if width not in FAMILIES:
        known = ", ".join(f"{width} ({family.name})" for width, family in FAMILIES.items())
        raise UserError(
            f"{file.path}: its UNet reads a context of width {width}, known are {known}; "
            "convert it with the folder of its settings (convert --config, in Python config=)"
        )
    family = UPSCALER if _entry(file, LABELS) else FAMILIES[width]
    if prediction is None:
        stated = "v" if V_MARK in file.entries else file.metadata.get("modelspec.prediction_type", "")
        prediction = MODELSPEC.get(stated)
    given = first.shape[1] if len(first.shape) == 4 else family.unet.in_channels
    if prediction is None and family.doubt and given != family.unet.in_channels:
        prediction = "epsilon"  # whatever of Stable Diffusion 2 reads a picture began from its 512-pixel base model
    if prediction is not None:
        family = replace(family, prediction=prediction, doubt="")
    if ZERO_SNR_MARK in file.entries:
        family = replace(family, schedule=replace(family.schedule, rescale_zero_snr=True))
    unet, autoencoder = replace(family.unet, in_channels=given, out_channels=last.shape[0]), family.autoencoder
    if family.name == "Stable Diffusion 2":
        unet = replace(unet, sample_size=SIDE[family.prediction])
        autoencoder = replace(autoencoder, sample_size=unet.sample_size * autoencoder.factor)
    return replace(family, unet=unet, autoencoder=autoencoder)


def _entry(file: TensorFile, key: str) -> Entry | None:
    found = file.entries.get(key) or file.entries.get(ema_key(key))
    return found if found and found.shape and min(found.shape) > 0 else None


def unknown(file: TensorFile) -> UserError:
    """What to say of a file that is no whole model: what it is, where its keys tell that."""
    whats = (what for mark, what in OTHERS if any(mark in key for key in file.entries))
    what = next(whats, "no checkpoint of a known model")
    return UserError(f"{file.path} is {what}; give a checkpoint of Stable Diffusion 1, 2 or XL, or of LDM")


def write_family(family: Family, directory: Path) -> None:
    """All settings of a model folder, as the family has them."""
    aesthetic, kind = family.text is None, STABLE_DIFFUSION if family.second is None else XL
    unet = family.unet
    task = find_task(unet.in_channels, unet.out_channels, family.autoencoder.latent_channels, unet.classes)
    towers = [part for part, tower in zip(TOWERS, (family.text, family.second), strict=True) if tower is not None]
    sampler, plan = ("euler", XL_PLAN) if kind is XL else ("ddim", STABLE_DIFFUSION_PLAN)
    scheduler = write_scheduler(Scheduler(family.schedule, family.prediction, sampler, plan))
    index = Index(
        kind,
        pipeline_name(task, kind, aesthetic=aesthetic),
        kind.parts_of(("vae", "unet", *towers)),
        str(scheduler["_class_name"]),
        zero_empty=not aesthetic,  # the refiner reads an empty prompt as it stands
        aesthetic=aesthetic,
    )
    contents: dict[str, dict[str, Any]] = {}
    if family.augmentation is not None:
        small = write_scheduler(Scheduler(family.augmentation.schedule, "epsilon", "ddpm", plan))
        index = replace(index, low_res=str(small["_class_name"]), max_noise_level=family.augmentation.most)
        contents[f"{LOW_RES}/scheduler_config.json"] = small
    contents |= {
        INDEX: write_index(index),
        "scheduler/scheduler_config.json": scheduler,
        "unet/config.json": configs.write_unet_config(unet),
        "vae/config.json": configs.write_autoencoder_config(family.autoencoder),
    }
    if family.text is not None:
        first = _saved_tokenizer(directory / "tokenizer", family.pad)
        contents["text_encoder/config.json"] = configs.write_text_config(family.text, **first)
    if family.second is not None:
        second = _saved_tokenizer(directory / "tokenizer_2", "!")
        ids = {"bos_id": second["bos_id"], "pad_id": second["pad_id"]}
        contents["text_encoder_2/config.json"] = write_projected_text_config(family.second, **ids)
    for name, content in contents.items():
        (directory / name).parent.mkdir(exist_ok=True)
        write_json(directory / name, content)


def _saved_tokenizer(directory: Path, pad: str) -> dict[str, int]:
    """Returns its special ids."""
    tokenizer = clip_tokenizer(pad)
    tokenizer.save(directory)
    return {"bos_id": tokenizer.bos_id, "eos_id": tokenizer.eos_id, "pad_id": tokenizer.pad_id}
