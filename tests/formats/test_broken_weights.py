"""Every way the weights in a model's folder can be broken is an error that names the file and what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from spoiling import UNET_WEIGHTS, edit, fails, reweigh
from torch import Tensor

from latentbrush.formats import load_model

pytestmark = pytest.mark.capability("strict-loading")


def test_tensors_missing_unused_misshaped_or_of_the_wrong_kind(folder: Path) -> None:
    path = folder / UNET_WEIGHTS
    whole = path.read_bytes()

    def spoilt(change: Callable[[dict[str, Tensor]], None], *parts: str) -> None:
        path.write_bytes(whole)
        reweigh(path, change)
        fails(folder, str(path), *parts)

    def half_gone(state: dict[str, Tensor]) -> None:
        for key in sorted(state)[:5]:
            del state[key]

    def renamed(state: dict[str, Tensor]) -> None:
        state["conv_in.mass"] = state.pop("conv_in.weight")

    spoilt(lambda state: state.pop("conv_in.bias"), "lacks 1 tensor: conv_in.bias")  # type: ignore[arg-type]
    spoilt(half_gone, "lacks 5 tensors: ", "conv_in.weight, conv_in.bias, ", ", ...")
    spoilt(renamed, "lacks 1 tensor: conv_in.weight", "holds 1 tensor: conv_in.mass instead")
    spoilt(lambda s: s.update(extra=torch.zeros(1)), "holds 1 tensor: extra that config.json does not ask for")
    spoilt(
        lambda s: s.update({"conv_in.bias": torch.zeros(9)}),
        "disagrees with config.json about the shape of 1 tensor: conv_in.bias [9] instead of [8]",
    )
    spoilt(
        lambda s: s.update({"conv_in.bias": torch.zeros(8, dtype=torch.int32)}),
        "holds 1 tensor: conv_in.bias I32; weights must be one of F16, BF16, F32, F64",
    )


def test_a_tensor_under_two_names(folder: Path) -> None:
    path = folder / "text_encoder" / "model.safetensors"
    reweigh(path, lambda s: s.update({"final_layer_norm.bias": s["text_model.final_layer_norm.bias"].clone()}))
    fails(folder, str(path), "holds 'final_layer_norm.bias' twice")


def test_files_that_are_cut_or_lie(folder: Path) -> None:
    path = folder / UNET_WEIGHTS
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    unsound, other = "is no sound safetensors file", "is neither a safetensors file nor one of torch.save"
    for content, said in (
        (b"", "is empty; copy or download it again"),
        (whole[:5], other),
        (whole[: 8 + header // 2], unsound),
        (whole[:-1], unsound),
        (whole + b"more", unsound),
        ((2**62).to_bytes(8, "little") + whole[8:], unsound),
        ((header + 8).to_bytes(8, "little") + whole[8:], unsound),
        (whole[:8] + b"\xff" * header + whole[8 + header :], other),
        (b"PK\x03\x04" + whole[4:], "is no sound torch.save file"),
        (whole.replace(b'"data_offsets":[0,', b'"data_offsets":[4,', 1), unsound),
    ):
        path.write_bytes(content)
        fails(folder, str(path), said)


@pytest.mark.capability("safe-loading")
def test_weights_that_are_missing(folder: Path) -> None:
    path = folder / UNET_WEIGHTS
    path.rename(path.with_suffix(".pth"))
    fails(folder, str(path), "is missing")


@pytest.mark.capability("sharded-files")
def test_variants(folder: Path) -> None:
    path = folder / UNET_WEIGHTS
    variant = path.with_name("diffusion_pytorch_model.bf16.safetensors")
    path.rename(variant)
    load_model(folder)
    shutil.copy(variant, path.with_name("diffusion_pytorch_model.other.safetensors"))
    fails(folder, "rename the one to use to diffusion_pytorch_model.safetensors", "bf16", "other")
    shutil.copy(variant, path.with_name("diffusion_pytorch_model.fp16.safetensors"))
    load_model(folder)


def shard(folder: Path) -> Path:
    """The UNet's weights in two files with an index; returns the index."""
    path = folder / UNET_WEIGHTS
    state = load_file(path)
    keys = sorted(state)
    places = {}
    for i, part in enumerate((keys[:20], keys[20:])):
        name = f"diffusion_pytorch_model-{i + 1:05}-of-00002.safetensors"
        save_file({key: state[key].clone() for key in part}, path.with_name(name))
        places.update(dict.fromkeys(part, name))
    path.unlink()
    index = path.with_name("diffusion_pytorch_model.safetensors.index.json")
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


@pytest.mark.capability("safe-loading", "sharded-files")
def test_shards_stay_in_their_folder(folder: Path, tmp_path: Path) -> None:
    index = shard(folder)
    load_model(folder)
    places = json.loads(index.read_text())["weight_map"]
    names = sorted(set(places.values()))
    outside = tmp_path / names[0]
    shutil.copy(index.with_name(names[0]), outside)
    for name in (f"../../{names[0]}", str(outside), f"..\\{names[0]}", "..", "."):
        moved = {key: name if value == names[0] else value for key, value in places.items()}
        edit(index, {"weight_map": moved})
        fails(folder, str(index), "leads out of its folder")
    edit(index, {"weight_map": places})
    index.with_name(names[0]).unlink()
    fails(folder, names[0], "is missing, though")
    index.with_name(names[0]).symlink_to(outside)
    fails(folder, str(index.with_name(names[0])), "leads out of its folder")


def test_an_index_tells_the_truth(folder: Path) -> None:
    index = shard(folder)
    places = json.loads(index.read_text())["weight_map"]
    first, last = sorted(set(places.values()))
    edit(index, {"weight_map": {**places, "conv_in.bias": last}})
    fails(folder, str(index), f"'conv_in.bias' in {last}, but it lies in {first}")
    edit(index, {"weight_map": {k: v for k, v in places.items() if k != "conv_in.bias"}})
    fails(folder, str(index), f"'conv_in.bias' in None, but it lies in {first}")
    edit(index, {"weight_map": {**places, "conv_in.more": last}})
    fails(folder, str(index), f"'conv_in.more' in {last}, but it lies in None")
    for wrong in ({}, None, ["a"], {"a": 1}):
        edit(index, {"weight_map": wrong})
        fails(folder, str(index), "has no weight_map")
