"""Single files of LDM's own models: both ways, tensor for tensor, and beside what reads such files elsewhere.

The oracles: diffusers' converters; x-transformers' names in a small module of this file, which diffusers' converter of
towers takes; and attention over cells as CompVis computes it, head by head, from one matrix.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from diffusers.loaders import single_file_utils
from diffusers.pipelines.stable_diffusion.convert_from_ckpt import convert_ldm_bert_checkpoint
from safetensors.torch import load_file, save_file
from test_ldm_others import CLASS, INPAINTING, TEXT, classes, inpainting  # noqa: F401  # fixtures
from tiny_ldm import VOCABULARY, tiny_bert, tiny_ldm, write_vocabulary
from torch import Tensor, nn

from latentbrush.diffusion import Schedule
from latentbrush.errors import UserError
from latentbrush.formats import convert, load_model, summarise
from latentbrush.formats.compvis import ema_key
from latentbrush.formats.ldm_families import FAMILIES, LDMFamily, write_ldm_family
from latentbrush.formats.settings import METADATA, settings_of
from latentbrush.formats.single import SingleFile, empty_networks, layouts_of
from latentbrush.formats.weights import Entry

pytestmark = pytest.mark.capability("single-file")

TOWER, UNET, STAGE = "cond_stage_model.transformer.", "model.diffusion_model.", "first_stage_model."
KINDS = ["text", "classes", "inpainting"]
ROWS = {"text": "ldm-text", "classes": "ldm-class", "inpainting": "ldm-inpainting"}
"""Of docs/compatibility.md."""
FILES = [pytest.param(kind, marks=pytest.mark.compatible(row, "file")) for kind, row in ROWS.items()]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ldm") / "text"
    tiny_ldm().save_pretrained(folder)
    return folder


def weights(folder: Path) -> dict[str, dict[str, Tensor]]:
    return {path.parent.name: load_file(path) for path in sorted(folder.rglob("*.safetensors"))}


def equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(tensor, second[key]) for key, tensor in first.items())


@pytest.mark.parametrize("kind", FILES)
def test_both_ways(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder, file = request.getfixturevalue(kind), tmp_path / "one.safetensors"
    convert(folder, file, to="single-file")
    convert(file, tmp_path / "again", to="diffusers")
    first, second = weights(folder), weights(tmp_path / "again")
    assert first.keys() == second.keys()
    assert all(equal(first[part], second[part]) for part in first)
    convert(tmp_path / "again", tmp_path / "again.safetensors", to="single-file")
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()
    whole, parts = load_model(file), load_model(folder)
    assert whole.task == parts.task
    assert all(torch.equal(t, parts.unet.state_dict()[k]) for k, t in whole.unet.state_dict().items())
    assert summarise(file).parameters == summarise(folder).parameters
    state = load_file(file)
    # As the trainers left them: pickled, with what is computed beside, and no settings of ours.
    alphas = parts.schedule.alphas_cumprod.float()
    torch.save({"state_dict": {**state, "alphas_cumprod": alphas}, "global_step": 1}, tmp_path / "one.ckpt")
    convert(tmp_path / "one.ckpt", tmp_path / "third", to="diffusers", config=folder)
    assert all(equal(first[part], third) for part, third in weights(tmp_path / "third").items())


class Attention(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.to_out = nn.Linear(inner, width)


class MLP(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Sequential(nn.Linear(width, inner), nn.GELU()), nn.Dropout(), nn.Linear(inner, width)
        )


def x_transformer(width: int, inner: int, mlp: int, layers: int, tokens: int) -> nn.Module:
    """The modules of x-transformers' wrapper by their names there; pairs of a norm and what follows it."""
    tower = nn.Module()
    tower.token_emb, tower.pos_emb = nn.Embedding(tokens, width), nn.Module()
    tower.pos_emb.emb = nn.Embedding(77, width)
    tower.attn_layers = nn.Module()
    blocks = [block for _ in range(layers) for block in (Attention(width, inner), MLP(width, mlp))]
    tower.attn_layers.layers = nn.ModuleList(nn.ModuleList([nn.LayerNorm(width), block]) for block in blocks)
    tower.norm, tower.to_logits = nn.LayerNorm(width), nn.Linear(width, tokens)
    return tower


@pytest.mark.capability("bert-text")
def test_the_tower_lies_as_x_transformers_has_it(text: Path, tmp_path: Path) -> None:
    convert(text, tmp_path / "one.safetensors", to="single-file")
    state = load_file(tmp_path / "one.safetensors")
    tower = x_transformer(24, 10, 40, 2, len(VOCABULARY))
    tower.load_state_dict({k.removeprefix(TOWER): t for k, t in state.items() if k.startswith(TOWER)}, strict=True)
    found = convert_ldm_bert_checkpoint(SimpleNamespace(transformer=tower), tiny_bert().config)
    assert equal(found.state_dict(), weights(text)["bert"])
    found = _by_diffusers(state, text)
    assert equal(found["unet"], weights(text)["unet"])
    assert equal(found["vqvae"], weights(text)["vqvae"])


def _by_diffusers(state: dict[str, Tensor], folder: Path) -> dict[str, dict[str, Tensor]]:
    model = load_model(folder)
    config = {
        "layers_per_block": 2,
        "class_embed_type": None,
        "addition_embed_type": None,
        "block_out_channels": model.unet.config.channels,
    }
    levels = [None] * len(model.autoencoder.config.channels)
    vae = {"down_block_types": levels, "up_block_types": levels}
    return {
        "unet": single_file_utils.convert_ldm_unet_checkpoint(dict(state), config),
        "vqvae": single_file_utils.convert_ldm_vae_checkpoint(dict(state), vae),
    }


@pytest.mark.capability("class-token")
def test_a_class_model_lies_as_diffusers_reads_it(classes: Path, tmp_path: Path) -> None:  # noqa: F811
    convert(classes, tmp_path / "one.safetensors", to="single-file")
    state = load_file(tmp_path / "one.safetensors")
    found, own = _by_diffusers(state, classes), weights(classes)
    assert equal(found["unet"], own["unet"])
    # Its converter knows no codebook.
    codebook = {"quantize.embedding.weight": state[f"{STAGE}quantize.embedding.weight"]}
    assert equal(found["vqvae"] | codebook, own["vqvae"])
    assert torch.equal(state["cond_stage_model.embedding.weight"], own["class_token"]["embedding.weight"])


@pytest.mark.capability("inpainting-model")
def test_attention_over_cells_lies_head_by_head(inpainting: Path, tmp_path: Path) -> None:  # noqa: F811
    convert(inpainting, tmp_path / "one.safetensors", to="single-file")
    state = {key: tensor.double() for key, tensor in load_file(tmp_path / "one.safetensors").items()}
    attention = load_model(inpainting, dtype=torch.float64).unet.mid_block.attention
    heads, key = attention.heads, f"{UNET}middle_block.1."
    x = torch.randn(2, 32, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    normed = nn.functional.group_norm(x, 8, state[f"{key}norm.weight"], state[f"{key}norm.bias"], 1e-5).flatten(2)
    qkv = nn.functional.conv1d(normed, state[f"{key}qkv.weight"], state[f"{key}qkv.bias"])
    q, k, v = qkv.reshape(2 * heads, 3 * 32 // heads, 15).split(32 // heads, dim=1)
    scores = torch.softmax(torch.einsum("bct,bcs->bts", q, k) / (32 // heads) ** 0.5, dim=-1)
    merged = torch.einsum("bts,bcs->bct", scores, v).reshape(2, 32, 15)
    out = x.flatten(2) + nn.functional.conv1d(merged, state[f"{key}proj_out.weight"], state[f"{key}proj_out.bias"])
    torch.testing.assert_close(attention(x).flatten(2), out, rtol=1e-9, atol=1e-9)
    # Halving and doubling are residual blocks, each in the place of a convolution.
    assert {f"{UNET}input_blocks.3.0.in_layers.0.weight", f"{UNET}output_blocks.2.2.out_layers.3.bias"} <= state.keys()
    assert not [key for key in state if ".op." in key or "output_blocks.2.2.conv" in key]


@pytest.mark.capability("inpainting-model", "strict-loading")
def test_the_first_stage_may_be_there_twice(inpainting: Path, tmp_path: Path) -> None:  # noqa: F811
    """CompVis's file has it once more under what is told, for it encodes that, too."""
    convert(inpainting, tmp_path / "one.safetensors", to="single-file")
    state = load_file(tmp_path / "one.safetensors")
    twice = {key.replace(STAGE, "cond_stage_model.", 1): t.clone() for key, t in state.items() if STAGE in key}
    averages = {ema_key(key): tensor + 1 for key, tensor in state.items() if key.startswith(UNET)}
    save_file(state | twice | averages, tmp_path / "both.safetensors")
    convert(tmp_path / "both.safetensors", tmp_path / "again", to="diffusers", config=inpainting)
    first, second = weights(inpainting), weights(tmp_path / "again")
    assert equal(first["vqvae"], second["vqvae"])
    assert equal({key: tensor + 1 for key, tensor in first["unet"].items()}, second["unet"])
    twice["cond_stage_model.quant_conv.bias"] += 1
    save_file(state | twice, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"cond_stage_model.quant_conv.bias is not first_stage_model.quant_conv.bias"):
        load_model(tmp_path / "other.safetensors", config=inpainting)


@pytest.mark.capability("strict-loading", "one-line-errors")
@pytest.mark.parametrize("kind", KINDS)
def test_keys_and_tables_of_another_are_refused(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder, file = request.getfixturevalue(kind), tmp_path / "one.safetensors"
    convert(folder, file, to="single-file")
    state = load_file(file)
    other = request.getfixturevalue("classes" if kind == "text" else "text")
    with pytest.raises(UserError, match="tensor") as refused:
        load_model(file, config=other)
    assert "\n" not in str(refused.value)
    save_file(state | {"cond_stage_model.more": torch.zeros(2)}, tmp_path / "more.safetensors")
    with pytest.raises(UserError, match=r"holds 1 tensor: cond_stage_model.more, unknown in such a model"):
        load_model(tmp_path / "more.safetensors", config=folder)
    missing = dict(state)
    del missing[f"{UNET}out.2.bias"]
    save_file(missing, tmp_path / "less.safetensors")
    with pytest.raises(UserError, match=r"lacks 1 tensor: model.diffusion_model.out.2.bias"):
        load_model(tmp_path / "less.safetensors", config=folder)
    save_file(state | {"alphas_cumprod": Schedule(beta_end=0.03).alphas_cumprod}, tmp_path / "table.safetensors")
    with pytest.raises(UserError, match="was trained with another noise schedule"):
        load_model(tmp_path / "table.safetensors", config=folder)


@dataclass
class Outline:
    """A file as its header describes it, without any data."""

    entries: dict[str, Entry]
    path: Path = Path("model.ckpt")
    metadata: dict[str, str] = field(default_factory=dict)

    def read(self, key: str) -> Tensor:
        raise AssertionError(f"{key} was read")


def published(family: LDMFamily, vocabulary: Path, tmp_path: Path) -> Outline:
    """The file of a family's own sizes."""
    write_ldm_family(family, tmp_path, "epsilon", vocabulary)
    networks = empty_networks(tmp_path)
    shapes = {part: {k: tuple(t.shape) for k, t in n.state_dict().items()} for part, n in networks.items()}
    entries = {}
    for part, layout in layouts_of(networks).items():
        for key, stored in layout.items():
            entries[key] = Entry(Path("model.ckpt"), key, stored.shapes(shapes[part])[0], "F32")
    return Outline(entries)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_published_files_are_told(family: LDMFamily, tmp_path: Path) -> None:
    (tmp_path / "settings").mkdir()
    vocabulary = write_vocabulary(tmp_path / "vocabulary")
    file = published(family, vocabulary, tmp_path / "settings")
    config = vocabulary if family is TEXT else None
    with settings_of(file, config=config) as settings:
        assert settings.told == f"{family.name}, by its keys and shapes"
        single = SingleFile(file, empty_networks(settings.directory))
        assert len(single.entries("unet")) > 100
        assert METADATA not in file.metadata
    averaged = {ema_key(key) if key.startswith(UNET) else key: entry for key, entry in file.entries.items()}
    with settings_of(Outline(averaged), config=config) as settings:
        assert settings.told.startswith(family.name)


def test_the_vocabulary_is_asked_for(text: Path, tmp_path: Path) -> None:
    convert(text, tmp_path / "one.safetensors", to="single-file")
    load_model(tmp_path / "one.safetensors")  # its own header has the vocabulary
    save_file(load_file(tmp_path / "one.safetensors"), tmp_path / "bare.safetensors")
    for options in ({}, {"config": tmp_path}):
        with pytest.raises(
            UserError, match=r"which no such file holds; give a folder with the vocab.txt|has no model_ind"
        ):
            load_model(tmp_path / "bare.safetensors", **options)
    without = tmp_path / "without"
    shutil.copytree(text, without)
    (without / "tokenizer/tokenizer.json").unlink()
    with pytest.raises(UserError, match="has no vocabulary; LDM's text-to-image model reads BERT's"):
        load_model(tmp_path / "bare.safetensors", config=without)
    assert load_model(tmp_path / "bare.safetensors", config=text).reads_bert


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("family", "theirs", "millions"),
    [
        (TEXT, lambda: UNet2DConditionModel(cross_attention_dim=1280), 872.3),
        (
            CLASS,
            lambda: UNet2DConditionModel(
                in_channels=3,
                out_channels=3,
                block_out_channels=(192, 384, 576, 960),
                down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * 3),
                up_block_types=(*["CrossAttnUpBlock2D"] * 3, "UpBlock2D"),
                cross_attention_dim=512,
                attention_head_dim=1,
            ),
            400.9,
        ),
        (
            INPAINTING,
            lambda: UNet2DModel(
                in_channels=7,
                out_channels=3,
                block_out_channels=(256, 512, 768, 1024),
                down_block_types=("ResnetDownsampleBlock2D", *["AttnDownBlock2D"] * 3),
                up_block_types=(*["AttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"),
                downsample_type="resnet",
                upsample_type="resnet",
            ),
            387.2,
        ),
    ],
    ids=["text", "classes", "inpainting"],
)
@pytest.mark.compatible("ldm-class", "size")
@pytest.mark.compatible("ldm-inpainting", "size")
def test_the_published_sizes(family: Any, theirs: Any, millions: float, tmp_path: Path) -> None:
    write_ldm_family(family, tmp_path, "epsilon", write_vocabulary(tmp_path / "vocabulary"))
    networks = empty_networks(tmp_path)
    with torch.device("meta"):
        oracle = theirs()
    assert count(networks["unet"]) == count(oracle)
    assert round(count(networks["unet"]) / 1e6, 1) == millions
