"""Files key for key as CompVis and Stability wrote them, without a header of ours: told by their keys and shapes, they
paint what the folder paints that they were made from.

The families are tiny ones, in the places of the published; that keys and shapes are those of the published is tested
against diffusers' converters in tests/parity/test_single_file_parity.py, and by counts of parameters here.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from latentbrush import Canvas, ImageRequest, Sampling, Start, generate
from latentbrush.conditioning import SpecialTokens, TextConditioner, Tokenizer, XLTextConditioner, train_tokenizer
from latentbrush.diffusion import Schedule
from latentbrush.formats import convert, families, load_model, save_model, settings, summarise
from latentbrush.formats.compvis import ema_key
from latentbrush.formats.empty import without_memory
from latentbrush.formats.families import FAMILIES, SIDE, XL_PLAN, Family
from latentbrush.formats.single import layouts_of
from latentbrush.model import LatentDiffusion
from latentbrush.nn import (
    AutoencoderConfig,
    AutoencoderKL,
    CLIPTextConfig,
    CLIPTextModel,
    ProjectedTextConfig,
    ProjectedTextModel,
    UNet,
    UNetConfig,
)
from latentbrush.request import Control

pytestmark = pytest.mark.capability("single-file")

WORDS, PLACES = 514, 8
TEXT = CLIPTextConfig(vocab_size=WORDS, width=8, layers=2, heads=2, mlp_width=8, max_positions=PLACES)
OPEN = replace(TEXT, activation="gelu")
SECOND = ProjectedTextConfig(replace(OPEN, width=12), projection=6)
AUTOENCODER = AutoencoderConfig(channels=(4, 8), layers_per_block=1, groups=4, sample_size=16)
PLAIN = UNetConfig(
    sample_size=8,
    channels=(8, 16),
    layers_per_block=2,
    attention=(True, False),
    heads=(2, 4),
    depth=(1, 1),
    context_width=8,
    groups=4,
)
XL = replace(PLAIN, attention=(False, True), context_width=20, linear_projection=True, added_width=30, micro_width=4)
SD1 = Family("Stable Diffusion 1", PLAIN, AUTOENCODER, TEXT)
SD2 = Family(
    "Stable Diffusion 2",
    replace(PLAIN, linear_projection=True),
    AUTOENCODER,
    OPEN,
    prediction="v_prediction",
    doubt="assumed",
    pad="!",
)
XL_BASE = Family("Stable Diffusion XL", XL, AUTOENCODER, TEXT, SECOND)
REFINER = Family("the refiner", replace(XL, context_width=12, added_width=26), AUTOENCODER, None, SECOND)
KINDS: dict[str, tuple[Family, int]] = {
    "sd1": (SD1, 4),
    "sd1-inpainting": (SD1, 9),
    "sd1-edit": (SD1, 8),
    "sd2-v": (SD2, 4),
    "sd2-inpainting": (replace(SD2, prediction="epsilon"), 9),
    "sd2-depth": (replace(SD2, prediction="epsilon"), 5),
    "xl": (XL_BASE, 4),
    "xl-inpainting": (XL_BASE, 9),
    "xl-refiner": (REFINER, 4),
}
KEYS = {
    "sd1": "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.k_proj.weight",
    "sd2": "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight",
    "xl": "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight",
    "xl-refiner": "conditioner.embedders.0.model.transformer.resblocks.0.attn.in_proj_weight",
}
IMAGE, MASK = "0" * 64, "1" * 64


WORD_LIST = train_tokenizer([], WORDS, PLACES)


def small_tokenizer(pad: str = "<|endoftext|>") -> Tokenizer:
    """In the place of the published one, which takes seconds to be written and read."""
    return Tokenizer(WORD_LIST.vocab, WORD_LIST.merges, max_length=PLACES, special=SpecialTokens(pad=pad))


@pytest.fixture
def small_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (families, settings):
        monkeypatch.setattr(module, "clip_tokenizer", small_tokenizer)


def model_of(family: Family, channels: int) -> LatentDiffusion:
    autoencoder, unet = AutoencoderKL(family.autoencoder), UNet(replace(family.unet, in_channels=channels))
    first = None if family.text is None else TextConditioner(small_tokenizer(family.pad), CLIPTextModel(family.text))
    text: TextConditioner | XLTextConditioner
    if family.second is None:
        assert first is not None
        text = first
    else:
        zero_empty = family.text is not None
        second = ProjectedTextModel(family.second)
        text = XLTextConditioner(first, small_tokenizer("!"), second, zero_empty=zero_empty)
    generator = torch.Generator().manual_seed(0)
    for network in (autoencoder, unet, text):
        for parameter in network.parameters():
            parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
        network.eval()
    xl = family.second is not None
    options: dict[str, Any] = {"sampler": "euler", "plan_options": XL_PLAN} if xl else {"sampler": "ddim"}
    return LatentDiffusion(autoencoder, unet, text, prediction=family.prediction, **options)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Made when first asked for."""
    return {"": tmp_path_factory.mktemp("folders")}


def folder_of(kind: str, folders: dict[str, Path]) -> Path:
    if kind not in folders:
        save_model(model_of(*KINDS[kind]), folders[""] / kind)
        folders[kind] = folders[""] / kind
    return folders[kind]


def published(kind: str, folder: Path, path: Path, form: str) -> Path:
    """The folder's weights as such a file has them, with what lies beside them there."""
    convert(folder, path.with_suffix(".safetensors"), to="single-file")
    state: dict[str, Tensor] = load_file(path.with_suffix(".safetensors"))
    path.with_suffix(".safetensors").unlink()
    assert KEYS[kind if kind in KEYS else kind.partition("-")[0]] in state
    unet = {key: tensor for key, tensor in state.items() if key.startswith("model.diffusion_model.")}
    counters = {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(470000)}
    if form == "ema-only":
        state = {key: tensor for key, tensor in state.items() if key not in unet} | counters
        state |= {ema_key(key): tensor for key, tensor in unet.items()}
    if form == "full":  # the raw weights are others
        state |= {key: tensor + 1 for key, tensor in unet.items()} | counters
        state |= {ema_key(key): tensor for key, tensor in unet.items()}
    if not kind.startswith("xl"):
        table = Schedule().alphas_cumprod.float()
        state |= {"alphas_cumprod": table, "betas": torch.zeros(1000), "sqrt_alphas_cumprod": table.sqrt()}
        state["first_stage_model.loss.logvar"] = torch.zeros(())
    if kind == "sd1":
        state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(PLACES)[None]
    if kind == "sd2-depth":
        state["depth_model.model.pretrained.model.cls_token"] = torch.zeros(1, 1, 8)
    if form == "half":
        state = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    if form in ("wrapped", "full", "ema-only"):
        beside = {"epoch": 12, "global_step": 470000, "pytorch-lightning_version": "1.4.2", "callbacks": {}}
        torch.save({"state_dict": state, **beside}, path, _use_new_zipfile_serialization=form != "full")
    elif form == "plain-ckpt":
        torch.save(state, path)
    else:
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    return path


def painted(model: LatentDiffusion) -> np.ndarray:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8))
    mask = Image.linear_gradient("L").resize((24, 16))
    start = Start(image=IMAGE, mask=MASK, strength=1.0) if model.task == "inpainting" else Start()
    control = Control(image=MASK) if model.task in ("editing", "depth-to-image") else Control()
    request = ImageRequest(
        prompt="a red heart",
        canvas=Canvas(width=24, height=16),
        sampling=Sampling(steps=2, seed=3),
        start=start,
        control=control,
    )
    [picture] = generate(model, request, images={IMAGE: photo, MASK: mask.convert("RGB")})
    return np.asarray(picture.image)


ROWS = {"sd1-edit": "instruct-pix2pix", "sd2-v": "sd2"}
"""Of docs/compatibility.md, where they are called otherwise."""
FORMS = [
    *(("sd1", form) for form in ("plain", "plain-ckpt", "wrapped", "ema-only", "full", "half")),
    *(("sd1-inpainting", "wrapped"), ("sd1-edit", "full"), ("sd2-v", "wrapped"), ("sd2-v", "plain")),
    *(("sd2-inpainting", "wrapped"), ("sd2-depth", "wrapped")),
    *(("xl", "plain"), ("xl", "half"), ("xl-inpainting", "half"), ("xl-refiner", "half")),
]


@pytest.mark.usefixtures("small_words")
@pytest.mark.parametrize(
    ("kind", "form"),
    [pytest.param(kind, form, marks=pytest.mark.compatible(ROWS.get(kind, kind), "file")) for kind, form in FORMS],
)
def test_published_files_paint_as_their_folders(
    kind: str, form: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    family, _ = KINDS[kind]
    known = SD2 if kind.startswith("sd2") else family
    monkeypatch.setattr(families, "FAMILIES", {known.unet.context_width: known})
    folder = folder_of(kind, folders)
    file = published(kind, folder, tmp_path / "published.ckpt", form)
    if form == "half":
        convert(folder, tmp_path / "half", to="diffusers", dtype="float16")
        folder = tmp_path / "half"
    expected, found = load_model(folder), load_model(file)
    assert found.origin is not None
    assert "by its keys and shapes" in found.origin.note
    assert ("estimates depth" in found.origin.note) == (kind == "sd2-depth")
    assert ("assumed" in found.origin.note) == (kind == "sd2-v")
    assert (found.task, found.prediction, found.sampler) == (expected.task, family.prediction, expected.sampler)
    assert found.plan_config() == expected.plan_config()
    if kind.startswith("sd2"):
        assert found.unet.config.sample_size == SIDE[family.prediction]
    assert np.array_equal(painted(found), painted(expected))
    assert painted(found).std() > 5
    if kind in ("xl-inpainting", "sd2-depth", "sd1"):
        convert(file, tmp_path / "again", to="diffusers")
        assert np.array_equal(painted(load_model(tmp_path / "again")), painted(expected))


@pytest.mark.usefixtures("small_words")
def test_what_is_chosen_wins_over_all_that_is_told(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The family says velocity, so does a header of Stability's; the folder of --config and --prediction win."""
    monkeypatch.setattr(families, "FAMILIES", {8: SD2})
    folder = folder_of("sd2-v", folders)
    file = published("sd2-v", folder, tmp_path / "v.ckpt", "wrapped")
    convert(folder, tmp_path / "noise", to="diffusers", prediction="epsilon")
    convert(folder, tmp_path / "headed.safetensors", to="single-file")
    save_file(
        load_file(tmp_path / "headed.safetensors"), tmp_path / "spec.safetensors", {"modelspec.prediction_type": "v"}
    )
    for path in (file, tmp_path / "headed.safetensors", tmp_path / "spec.safetensors"):
        assert load_model(path).prediction == "v_prediction"
        assert load_model(path, prediction="epsilon").prediction == "epsilon"
        assert load_model(path, config=tmp_path / "noise").prediction == "epsilon"
        assert load_model(path, config=tmp_path / "noise", prediction="sample").prediction == "sample"
    for options, wanted in (
        ({"config": tmp_path / "noise"}, "epsilon"),
        ({"config": tmp_path / "noise", "prediction": "sample"}, "sample"),
    ):
        for to, name in (("diffusers", "out"), ("single-file", "out.safetensors")):
            convert(file, tmp_path / name, to=to, overwrite=True, **options)  # type: ignore[arg-type]
            assert load_model(tmp_path / name).prediction == wanted


PARAMETERS = {768: 1_066_235_307, 1024: 1_289_952_427, 2048: 3_468_837_867}
"""By the width of the context: of UNet, autoencoder and text towers, as they were published."""


def networks_of(family: Family) -> dict[str, nn.Module]:
    with without_memory():
        networks: dict[str, nn.Module] = {"unet": UNet(family.unet), "vae": AutoencoderKL(family.autoencoder)}
        if family.text is not None:
            networks["text_encoder"] = CLIPTextModel(family.text)
        if family.second is not None:
            networks["text_encoder_2"] = ProjectedTextModel(family.second)
    return networks


@pytest.mark.parametrize("width", PARAMETERS)
def test_files_of_the_published_sizes_are_told(width: int, tmp_path: Path) -> None:
    """Their headers alone: the file is a hole, as large as the published one in halves, and takes no room."""
    networks, header, end = networks_of(FAMILIES[width]), {}, 0
    for part, layout in layouts_of(networks).items():
        shapes = {name: tuple(tensor.shape) for name, tensor in networks[part].state_dict().items()}
        for key, stored in layout.items():
            shape = stored.shapes(shapes)[0]
            begin, end = end, end + 2 * math.prod(shape)
            header[key] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path = tmp_path / "published.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    told = summarise(path)
    assert told.parameters == PARAMETERS[width]
    assert FAMILIES[width].name in told.told
    assert told.prediction == FAMILIES[width].prediction
