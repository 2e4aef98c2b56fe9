"""Pickles that mean harm: refused in one line that names the file, and no code of theirs runs."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from crafted import Call, Storage, archive, dumped, read_all, refusal, view, view_in

from latentbrush.formats import opcodes
from latentbrush.formats.store import open_tensors

pytestmark = [pytest.mark.capability("safe-loading"), pytest.mark.capability("single-file")]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "posix.system"),
        (eval, "builtin__.eval"),
        (getattr, "builtin__.getattr"),
        (torch.load, "torch.serialization.load"),
        (torch._utils._rebuild_sparse_tensor, "_rebuild_sparse_tensor"),
        (torch.nn.Linear, "torch.nn.modules.linear.Linear"),
    ],
)
@pytest.mark.parametrize("wrapped", [True, False])
def test_calls_are_refused_by_name(function: Any, name: str, wrapped: bool, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    call = Call(function, f"open({str(mark)!r}, 'w')" if function is eval else f"touch {mark}")
    pickled = dumped({"state_dict": {"a": call}} if wrapped else call)
    assert "could run code" in refusal(archive(tmp_path / "x.ckpt", pickled), name)
    (tmp_path / "bare.ckpt").write_bytes(pickled)
    refusal(tmp_path / "bare.ckpt", "a pickle that torch.save did not write, which could run code")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        (b"\x80\x02(Nu.", "damaged"),
        (b"\x80\x02.", "damaged"),
        (b"\x80\x02}", "exhausted"),
        (b"\x80\x02K\x01K\x02s.", "damaged"),
        (b"\x80\x02}h\x05s.", "damaged"),
        (b"\x80\x02K\x01.", "holds no dict of tensors"),
        (b"\x80\x02}.", "holds no dict of tensors"),
        (b"\x80\x04" + b"}" + b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", "holds no dict of tensors"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "expected"),
        (b"\x80\x02i0s\nos\n.", "INST"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02}\x8a\xff" + b"9" * 255 + b"s.", "damaged"),
        (b"\x80\x02}K\x00\x85\x94" + b"h\x00h\x00\x86\x94" * 5 + b"K\x01s.", "damaged"),
    ],
)
def test_pickles_that_are_none(pickled: bytes, said: str, tmp_path: Path) -> None:
    refusal(archive(tmp_path / "x.ckpt", pickled), said)


def test_nested_tuples_as_a_key_take_no_time(tmp_path: Path) -> None:
    """Hashed, they would take 2^60 steps."""
    nested = b"K\x01\x85q\x00" + b"".join(b"0h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60))
    refusal(archive(tmp_path / "x.ckpt", b"\x80\x02}" + nested + b"K\x01s."), "its pickle")
    nested = b"K\x01\x85q\x00" + b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(60))
    refusal(archive(tmp_path / "x.ckpt", b"\x80\x02}" + nested + b"K\x01s."), "damaged")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([(2**61 - 1) * i for i in range(1, 5)], "number of over 60 bits as a key"),
        ([2**60], "number of over 60 bits as a key"),
        ([-(2**60)], "number of over 60 bits as a key"),
        ([0.5], "with a fraction"),
        (range(20_001), "more than 20000 numbers as keys"),
    ],
)
def test_numbers_as_keys_that_make_dicts_slow(keys: Any, said: str, tmp_path: Path) -> None:
    refusal(archive(tmp_path / "x.ckpt", dumped({"a": dict.fromkeys(keys)})), said)


def test_an_optimiser_s_keys_are_read(tmp_path: Path) -> None:
    """Numbers from 0 on or, in old files, addresses."""
    state = {key: {"step": key} for key in (*range(2000), 140_000_000_000_000, 2**60 - 1)}
    content = {"state_dict": {}, "optimizer_states": [{"state": state}]}
    assert read_all(open_tensors(archive(tmp_path / "x.ckpt", dumped(content)))) == {}


def test_too_many_opcodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(opcodes, "MOST_OPCODES", 1000)
    refusal(archive(tmp_path / "x.ckpt", b"\x80\x02" + b"}" * 2000 + b"."), "more than 1000 opcodes")


@pytest.mark.parametrize(
    "tensor",
    [
        view(0, (1000, 1000), (0, 0)),
        view(0, (5,), (1,)),
        view(1, (4,), (1,)),
        view(0, (2, 2), (1, 3)),
        view(-1, (1,), (1,)),
        view(0, (-1,), (1,)),
        view(0, (4,), (-1,)),
        view(0, (2**62,), (1,)),
        view(0, (2,), ()),
        view(0, (True,), (1,)),
        view(0, [2], [1]),
        view(0, (1,) * 40, (1,) * 40),
        view(0, (1,), (1,), key="1"),
        view(0, (1,), (1,), key="../data.pkl"),
        view(0, (1,), (1,), kind=torch.Size),
    ],
)
def test_tensors_that_cannot_be(tensor: Any, tmp_path: Path) -> None:
    path = archive(tmp_path / "x.ckpt", dumped({"a": tensor}), data_0=struct.pack("4f", 1, 2, 3, 4))
    refusal(path, "tensor")


def test_an_empty_tensor_whose_strides_torch_cannot_write(tmp_path: Path) -> None:
    pickled = dumped({"a": view(0, (0, 2**47, 2**47), (0, 0, 0))})
    for data in (b"", bytes(16)):
        refusal(archive(tmp_path / "x.ckpt", pickled, data_0=data), "Stride calculation overflowed")


def test_a_tensor_that_can(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.ckpt", dumped({"a": view(1, (3,), (1,))}), data_0=struct.pack("4f", 1, 2, 3, 4))
    assert read_all(open_tensors(path))["a"].tolist() == [2, 3, 4]


@pytest.mark.parametrize(("first", "size"), [(0, 10**9), (10**9, 4), (1, 4)])
def test_a_part_of_more_than_the_storage_has(first: int, size: int, tmp_path: Path) -> None:
    part = Storage(torch.FloatStorage, "0", 2 * 10**9, ("1", first, size))
    pickled = dumped({"a": view_in(part, 0, (size,), (1,))})
    path = archive(tmp_path / "x.ckpt", pickled, data_0=struct.pack("4f", 1, 2, 3, 4))
    refusal(path, f"a part of {size} numbers from {first} on of one with 4")


def test_a_part_of_a_storage(tmp_path: Path) -> None:
    part = Storage(torch.FloatStorage, "0", 4, ("1", 1, 3))
    pickled = dumped({"a": view_in(part, 1, (2,), (1,))})
    path = archive(tmp_path / "x.ckpt", pickled, data_0=struct.pack("4f", 1, 2, 3, 4))
    assert read_all(open_tensors(path))["a"].tolist() == [3, 4]
