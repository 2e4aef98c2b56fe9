"""Checkpoints are read as torch reads them, and what is none is refused in one line that names the file."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

import pytest
import torch
from crafted import STATE, archive, read_all, refusal
from safetensors.torch import save_file

from latentbrush.errors import UserError
from latentbrush.formats import load_model
from latentbrush.formats.store import open_tensors

pytestmark = [pytest.mark.capability("safe-loading"), pytest.mark.capability("single-file")]


def test_tensors_come_as_torch_reads_them(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    state = {
        **STATE,
        "row": base[1],
        "turned": base.T,
        "part": base[1:3, 2:5],
        "none": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        **{str(kind): torch.ones(3).to(kind) for kind in (torch.bfloat16, torch.float64, torch.int8, torch.bool)},
    }
    torch.save(state, tmp_path / "x.pt")
    expected = torch.load(tmp_path / "x.pt", weights_only=True)
    found = read_all(open_tensors(tmp_path / "x.pt"))
    assert list(found) == list(expected)
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype
        assert torch.equal(found[key], tensor), key
    found["row"].zero_()
    assert torch.equal(read_all(open_tensors(tmp_path / "x.pt"))["row"], base[1])  # the file stays as it was


def test_what_trainers_leave_beside_is_not_made(tmp_path: Path) -> None:
    class ModelCheckpoint:
        pass

    ModelCheckpoint.__module__ = "pytorch_lightning.callbacks.model_checkpoint"
    ModelCheckpoint.__qualname__ = "ModelCheckpoint"
    name = b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n"
    pickled = b"\x80\x02}(X\x0a\x00\x00\x00state_dict}X\x09\x00\x00\x00callbacks}" + name + b"}su."
    assert read_all(open_tensors(archive(tmp_path / "x.ckpt", pickled))) == {}


@pytest.mark.parametrize("new", [True, False])
def test_a_file_is_mapped_once_and_no_two_tensors_share_memory(
    new: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each mapping keeps an open file: one a tensor would be more than systems allow."""
    made: list[int] = []
    original = mmap.mmap
    monkeypatch.setattr(mmap, "mmap", lambda *args, **options: (made.append(1), original(*args, **options))[1])
    base = torch.arange(6.0)
    state = {f"{i}": torch.full((3,), float(i)) for i in range(9)} | {"tied": base, "too": base, "part": base[:2]}
    torch.save(state, tmp_path / "x.pt", _use_new_zipfile_serialization=new)
    found = read_all(open_tensors(tmp_path / "x.pt"))
    assert len(made) == 1
    found["tied"].zero_()
    assert all(torch.equal(found[key], state[key]) for key in state if key != "tied")
    save_file(found, tmp_path / "again.safetensors")  # it refuses what shares memory


@pytest.mark.parametrize("new", [True, False])
def test_views_of_one_storage_are_not_copied_without_end(new: bool, tmp_path: Path) -> None:
    base = torch.arange(20_000.0)
    torch.save({"a": base, "tied": base.view(200, 100)}, tmp_path / "tied.pt", _use_new_zipfile_serialization=new)
    assert len(read_all(open_tensors(tmp_path / "tied.pt"))) == 2
    path = tmp_path / "x.pt"
    torch.save({f"{i}": base for i in range(500)}, path, _use_new_zipfile_serialization=new)
    refusal(path, f"describes tensors of 40000000 bytes, but has {path.stat().st_size}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
        (b"<!doctype html><html>", "a page of a web site"),
        (b"GGUF\x03", "GGUF"),
        (b'{"a": 1}', "a text file of settings"),
        (b"\0" * 40, "neither a safetensors file nor one of torch.save"),
        (struct.pack("<Q", 2**60) + b"{}", "no sound safetensors file"),
        (struct.pack("<Q", 2) + b"{}", "no checkpoint of a known model"),
        (b"PK\x03\x04", "no sound torch.save file"),
    ],
)
def test_files_that_are_no_checkpoints(content: bytes, said: str, tmp_path: Path) -> None:
    for suffix in ("ckpt", "safetensors"):
        path = tmp_path / f"x.{suffix}"
        path.write_bytes(content)
        with pytest.raises(UserError, match=said):
            load_model(path)


def test_odd_paths_and_what_lies_beside_tensors(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ckpt")
    refusal(tmp_path / "pipe.ckpt", "is no file")
    torch.save({**STATE, "note": "text"}, tmp_path / "note.pt")
    refusal(tmp_path / "note.pt", "'note' is no tensor")
    torch.save({"state_dict": STATE, "payload": 1}, tmp_path / "beside.pt")
    refusal(tmp_path / "beside.pt", "holds 'payload' beside state_dict")
    torch.save({3: torch.ones(1)}, tmp_path / "number.pt")
    refusal(tmp_path / "number.pt", "which is no text")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("lora_unet_down_blocks_0.alpha", "a LoRA"),
        ("control_model.input_blocks.0.0.weight", "a ControlNet"),
        ("down_blocks.0.resnets.0.conv1.weight", "one part of a diffusers folder"),
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "FLUX"),
        ("emb_params", "a textual inversion"),
        ("decoder.up.0.block.0.conv1.weight", "an autoencoder alone"),
    ],
)
def test_files_of_other_kinds_are_called_by_name(key: str, said: str, tmp_path: Path) -> None:
    save_file({key: torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=said):
        load_model(tmp_path / "x.safetensors")
