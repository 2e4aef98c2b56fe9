"""Single files beside diffusers: its converters read what we write, and we read what they would be given."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.loaders import single_file_utils as theirs
from safetensors.torch import load_file, save_file
from tiny import save_tiny_pipeline
from tiny_xl import tiny_xl_pipeline

from latentbrush.formats import convert, load_model
from latentbrush.formats.compvis import ema_key
from latentbrush.formats.empty import without_memory
from latentbrush.formats.families import FAMILIES, UPSCALER, Family
from latentbrush.formats.keys import AUTOENCODER, CLIP_TEXT, CLIP_TEXT_PROJECTED, UNET
from latentbrush.formats.single import layouts_of
from latentbrush.nn import AutoencoderKL, CLIPTextModel, ProjectedTextModel
from latentbrush.nn import UNet as OurUNet

pytestmark = pytest.mark.capability("single-file")

OPEN_CLIP = "cond_stage_model.model."


def bare(state: dict[str, Any]) -> dict[str, Any]:
    """transformers writes the segment or leaves it out, by version."""
    return {key.removeprefix("text_model."): value for key, value in state.items()}


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.parent.name: bare(load_file(path)) for path in sorted(folder.rglob("*.safetensors"))}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(tensor, second[key]) for key, tensor in first.items())


def converted_by_diffusers(folder: Path, file: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Part -> what diffusers' own converter makes of a single file, given the folder's configurations."""
    state = load_file(file)
    model = load_model(folder)
    config = {
        "layers_per_block": model.unet.config.layers_per_block,
        "class_embed_type": None,
        "block_out_channels": model.unet.config.channels,
        "addition_embed_type": None,
    }
    if model.unet.config.added_width is not None:
        config["addition_embed_type"] = "text_time"
    levels = [None] * len(model.autoencoder.config.channels)
    return {
        "unet": theirs.convert_ldm_unet_checkpoint(dict(state), config),
        "vae": theirs.convert_ldm_vae_checkpoint(dict(state), {"down_block_types": levels, "up_block_types": levels}),
    }


@pytest.mark.compatible("sd1", "file")
@pytest.mark.compatible("sd2", "file")
@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_pipelines_survive_the_way_through_a_file(kind: Any, tmp_path: Path) -> None:
    folder, file = tmp_path / "pipeline", tmp_path / "one.safetensors"
    pipeline = save_tiny_pipeline(folder, kind)
    convert(folder, file, to="single-file")
    convert(file, tmp_path / "again", to="diffusers")
    first, second = weights(folder), weights(tmp_path / "again")
    assert first.keys() == second.keys() == {"unet", "vae", "text_encoder"}
    assert all(equal(first[part], second[part]) for part in first)
    found = converted_by_diffusers(folder, file)
    assert all(equal(found[part], first[part]) for part in found)
    text = theirs.convert_ldm_clip_checkpoint(load_file(file))
    if kind == "sd2":
        text = theirs.convert_open_clip_checkpoint(pipeline.text_encoder, load_file(file), OPEN_CLIP)
    assert equal(bare(text), first["text_encoder"])


def test_diffusers_opens_our_file_and_paints_the_same(tmp_path: Path) -> None:
    pipeline = save_tiny_pipeline(tmp_path / "pipeline", "sd1")
    convert(tmp_path / "pipeline", tmp_path / "one.safetensors", to="single-file")
    opened = StableDiffusionPipeline.from_single_file(
        str(tmp_path / "one.safetensors"),
        config=str(tmp_path / "pipeline"),
        local_files_only=True,
        safety_checker=None,
    )
    for part in ("unet", "vae", "text_encoder"):
        assert equal(getattr(opened, part).state_dict(), getattr(pipeline, part).state_dict()), part


def test_the_second_family_keeps_what_lies_behind_its_tower(tmp_path: Path) -> None:
    """As Stability's own files: one more layer, the projection, the temperature; and no settings of ours."""
    folder, file = tmp_path / "pipeline", tmp_path / "one.safetensors"
    save_tiny_pipeline(folder, "sd2")
    convert(folder, file, to="single-file")
    state = load_file(file)
    blocks = f"{OPEN_CLIP}transformer.resblocks."
    behind = {key.replace(f"{blocks}2.", f"{blocks}3."): t + 1 for key, t in state.items() if f"{blocks}2." in key}
    assert len(behind) == 12
    behind |= {f"{OPEN_CLIP}text_projection": torch.randn(24, 24), f"{OPEN_CLIP}logit_scale": torch.tensor(4.6)}
    torch.save({"state_dict": state | behind, "global_step": 875000}, tmp_path / "one.ckpt")
    convert(tmp_path / "one.ckpt", tmp_path / "again", to="diffusers", config=folder)
    convert(tmp_path / "again", tmp_path / "again.safetensors", to="single-file")
    assert equal(load_file(tmp_path / "again.safetensors"), state | behind)
    assert equal(bare(load_file(tmp_path / "again/text_encoder/model.safetensors")), weights(folder)["text_encoder"])
    assert StableDiffusionPipeline.from_pretrained(tmp_path / "again", safety_checker=None).text_encoder is not None
    load_model(tmp_path / "again")


def test_averages_have_diffusers_names(tmp_path: Path) -> None:
    folder, file = tmp_path / "pipeline", tmp_path / "one.safetensors"
    save_tiny_pipeline(folder, "sd1")
    convert(folder, file, to="single-file")
    state = load_file(file)
    averages = {ema_key(key): tensor + 1 for key, tensor in state.items() if key.startswith("model.diffusion_model.")}
    assert len(averages) == len(weights(folder)["unet"])
    config = {"layers_per_block": 2, "class_embed_type": None, "addition_embed_type": None}
    found = theirs.convert_ldm_unet_checkpoint({**state, **averages}, config, extract_ema=True)
    assert equal(found, {key: tensor + 1 for key, tensor in weights(folder)["unet"].items()})
    save_file({**state, **averages}, tmp_path / "both.safetensors")
    loaded = load_model(tmp_path / "both.safetensors", config=folder)
    assert all(torch.equal(found[UNET.theirs(name)], tensor) for name, tensor in loaded.unet.state_dict().items())


@pytest.mark.compatible("xl", "file")
def test_stable_diffusion_xl(tmp_path: Path) -> None:
    folder, file = tmp_path / "pipeline", tmp_path / "one.safetensors"
    pipeline = tiny_xl_pipeline()
    pipeline.save_pretrained(folder)
    convert(folder, file, to="single-file")
    convert(file, tmp_path / "again", to="diffusers")
    first, second = weights(folder), weights(tmp_path / "again")
    assert first.keys() == second.keys() == {"unet", "vae", "text_encoder", "text_encoder_2"}
    assert all(equal(first[part], second[part]) for part in first)
    found = converted_by_diffusers(folder, file)
    assert all(equal(found[part], first[part]) for part in found)
    state = load_file(file)
    assert equal(bare(theirs.convert_ldm_clip_checkpoint(state)), first["text_encoder"])
    text = theirs.convert_open_clip_checkpoint(pipeline.text_encoder_2, state, "conditioner.embedders.1.model.")
    projection = text.pop("text_projection.weight")
    assert torch.equal(projection, first["text_encoder_2"].pop("text_projection.weight"))
    assert StableDiffusionXLPipeline.from_pretrained(tmp_path / "again") is not None
    shutil.rmtree(folder)
    assert load_model(file).is_xl


@pytest.mark.parametrize("family", [*FAMILIES.values(), UPSCALER], ids=lambda family: family.name)
def test_the_published_shapes(family: Family) -> None:
    """Of the real sizes, without their memory: every key is one that diffusers' converter turns into the folder's."""
    with without_memory():
        networks: dict[str, torch.nn.Module] = {"unet": OurUNet(family.unet), "vae": AutoencoderKL(family.autoencoder)}
        if family.text is not None:
            networks["text_encoder"] = CLIPTextModel(family.text)
        if family.second is not None:
            networks["text_encoder_2"] = ProjectedTextModel(family.second)
    shapes = {part: {k: tuple(t.shape) for k, t in n.state_dict().items()} for part, n in networks.items()}
    files = {
        part: {key: torch.empty(stored.shapes(shapes[part])[0], device="meta") for key, stored in layout.items()}
        for part, layout in layouts_of(networks).items()
    }
    config = {
        "layers_per_block": 2,
        "class_embed_type": None,
        "block_out_channels": family.unet.channels,
        "addition_embed_type": None if family.second is None else "text_time",
        "num_class_embeds": family.unet.classes,
    }
    levels = [None] * len(family.autoencoder.channels)
    found = {
        "unet": theirs.convert_ldm_unet_checkpoint(dict(files["unet"]), config),
        "vae": theirs.convert_ldm_vae_checkpoint(files["vae"], {"down_block_types": levels, "up_block_types": levels}),
    }
    for part, names in (("unet", UNET), ("vae", AUTOENCODER)):
        ours = {names.theirs(name): shape for name, shape in shapes[part].items()}
        assert {key: tuple(tensor.shape) for key, tensor in found[part].items()} == ours
    wanted = {"Stable Diffusion 1": 686, "Stable Diffusion 2": 686, "Stable Diffusion XL": 1680, UPSCALER.name: 687}
    assert len(files["unet"]) == wanted.get(family.name, 1220)
    assert len(files["vae"]) == (248 if family is not UPSCALER else 204)
    assert CLIP_TEXT_PROJECTED.theirs("text_projection.weight") == "text_projection.weight"
    assert CLIP_TEXT.theirs("layers.0.mlp.fc1.bias") == "text_model.encoder.layers.0.mlp.fc1.bias"
