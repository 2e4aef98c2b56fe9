"""Checkpoints that mean harm or are damaged: refused in one line that names the file, and no code of theirs runs."""

from __future__ import annotations

import collections
import io
import mmap
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from latentbrush.errors import LONGEST, UserError
from latentbrush.formats import load_model, opcodes
from latentbrush.formats.store import TensorFile, open_tensors

pytestmark = [pytest.mark.capability("safe-loading"), pytest.mark.capability("single-file")]

STATE = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.ones(3).half(), "b": torch.tensor(2)}


def refusal(path: Path, *parts: str) -> str:
    with pytest.raises(UserError) as caught:
        read_all(open_tensors(path))
    line = str(caught.value)
    for part in (path.name, *parts):
        assert part in line
    assert line.isprintable()
    assert len(line) < LONGEST + 10
    return line


def read_all(file: TensorFile) -> dict[str, torch.Tensor]:
    return {key: file.read(key) for key in file.entries}


def archive(path: Path, pickled: bytes, *, method: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    """What torch.save writes, around a pickle of our own."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("archive/data.pkl", pickled)
        for name, content in members.items():
            file.writestr(f"archive/{name.replace('_', '/')}", content)
    return path


class Call:
    """Pickled, a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


class Storage:
    """Pickled, a reference to a storage."""

    def __init__(self, kind: Any, key: str, count: int, *more: Any) -> None:
        self.identity = ("storage", kind, key, "cpu", count, *more)


def dumped(content: Any) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return value.identity if isinstance(value, Storage) else None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue()


def view(offset: int, shape: Any, strides: Any, kind: Any = torch.FloatStorage, key: str = "0") -> Call:
    return view_in(Storage(kind, key, 4), offset, shape, strides)


def view_in(storage: Storage, offset: int, shape: Any, strides: Any) -> Call:
    rebuild = torch._utils._rebuild_tensor_v2
    return Call(rebuild, storage, offset, shape, strides, False, collections.OrderedDict())


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


def test_zip_bombs(tmp_path: Path) -> None:
    data = bytes(10**7)
    packed = archive(tmp_path / "x.ckpt", dumped({"a": view(0, (1,), (1,))}), method=zipfile.ZIP_DEFLATED, data_0=data)
    assert packed.stat().st_size < 50_000
    refusal(packed, "compressed")
    path = archive(tmp_path / "y.ckpt", dumped({"a": view(0, (1,), (1,))}), data_0=bytes(16))
    raw = path.read_bytes()
    place = raw.rindex(b"PK\x01\x02")  # the second member in the archive's list: both its sizes
    path.write_bytes(raw[: place + 20] + struct.pack("<II", 2**31, 2**31) + raw[place + 28 :])
    refusal(path, "says it has 2147483648 bytes, the whole file has")


def relisted(path: Path, offsets: dict[str, int], shift: int = 0) -> Path:
    """The archive's list changed: where members' headers lie, and, by `shift`, where the list itself does."""
    raw = bytearray(path.read_bytes())
    end = raw.rindex(b"PK\x05\x06")
    (place,) = struct.unpack_from("<I", raw, end + 16)
    struct.pack_into("<I", raw, end + 16, place + shift)
    while place < end:
        sizes = struct.unpack_from("<3H", raw, place + 28)
        name = raw[place + 46 : place + 46 + sizes[0]].decode().partition("/")[2]
        if name in offsets:
            struct.pack_into("<I", raw, place + 42, offsets[name])
        place += 46 + sum(sizes)
    path.write_bytes(raw)
    return path


def two_storages(path: Path) -> tuple[Path, list[int]]:
    """Two tensors of the same numbers, and where the headers of data.pkl and of their storages lie."""
    state = {"a": view(0, (4,), (1,)), "b": view(0, (4,), (1,), key="1")}
    four = struct.pack("4f", 1, 2, 3, 4)
    archive(path, dumped(state), data_0=four, data_1=four)
    with zipfile.ZipFile(path) as file:
        return path, [info.header_offset for info in file.infolist()]


def test_members_before_the_beginning(tmp_path: Path) -> None:
    """A list that says it lies further back moves every member to the front; Python counts below 0 from the end."""
    path, (pickled, first, second) = two_storages(tmp_path / "x.ckpt")
    whole = path.stat().st_size
    relisted(path, {"data.pkl": pickled + whole, "data/1": second + whole}, whole)
    refusal(path, f"data/0 lies {whole - first} bytes before the file's beginning")


def test_members_that_share_bytes(tmp_path: Path) -> None:
    """Two tensors in one memory: whoever changed one would change the other."""
    path, (_, first, _) = two_storages(tmp_path / "x.ckpt")
    refusal(relisted(path, {"data/1": first}), "reaches into the next member")
    path, (_, first, second) = two_storages(tmp_path / "y.ckpt")
    raw = bytearray(path.read_bytes())
    # The first one's own header says that so much lies between it and its bytes that they are the second's.
    struct.pack_into("<H", raw, first + 28, second - first)
    path.write_bytes(raw)
    refusal(path, "data/0 reaches into the next member")


def test_other_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.ckpt", "w") as file:
        file.writestr("readme.txt", "hello")
    refusal(tmp_path / "x.ckpt", "no data.pkl")
    refusal(archive(tmp_path / "y.ckpt", dumped({}), code_x=b"pass"), "TorchScript")
    with zipfile.ZipFile(tmp_path / "two.pt", "w") as file:
        file.writestr("archive/data.pkl", dumped({}))
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("archive/data.pkl", dumped({}))
    refusal(tmp_path / "two.pt", "two of its members have one name")


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


def test_big_endian_numbers(tmp_path: Path) -> None:
    content = dumped({"a": view(0, (4,), (1,))})
    refusal(archive(tmp_path / "x.pt", content, byteorder=b"big", data_0=bytes(16)), "big-endian")
    read_all(open_tensors(archive(tmp_path / "y.pt", content, byteorder=b"little", data_0=bytes(16))))


def test_a_wrong_byte_is_found(tmp_path: Path) -> None:
    torch.save({"a": torch.full((100,), 1.5)}, tmp_path / "x.pt")
    raw = bytearray((tmp_path / "x.pt").read_bytes())
    raw[raw.index(struct.pack("f", 1.5) * 10) + 3] ^= 1
    (tmp_path / "x.pt").write_bytes(raw)
    refusal(tmp_path / "x.pt", "checksum")


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


def mutated(raw: bytes, count: int) -> Iterator[bytes]:
    """Bytes changed, cut out, doubled, cut off; most near the ends, where headers and lists of contents lie."""
    draw = random.Random(0)
    for _ in range(count):
        data = bytearray(raw)
        for _ in range(draw.choice((1, 1, 2, 8))):
            place = min(int(draw.expovariate(1 / 200)), len(data) - 1)
            place = draw.choice((place, len(data) - 1 - place, draw.randrange(len(data))))
            kind = draw.randrange(5)
            if kind < 2:
                data[place] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
            elif kind == 2:
                data[place : place + 8] = draw.choice((b"\xff" * 8, b"\0" * 8, struct.pack("<Q", 2**40)))
            elif kind == 3:
                del data[place : place + draw.choice((1, 4, 64))]
            else:
                data[place:place] = data[place : place + draw.choice((1, 16))]
            if not data:
                break
        yield bytes(data) if draw.random() < 0.9 else bytes(data[: draw.randrange(len(data) + 1)])


def refused(path: Path) -> bool:
    """Whether a file is refused, in one line that names it; any other error goes on."""
    try:
        read_all(open_tensors(path))
    except UserError as error:
        line = str(error)
    else:
        return False
    assert str(path) in line
    assert line.isprintable()
    return True


def as_safetensors(path: Path) -> None:
    save_file(STATE, path, metadata={"format": "pt"})


def as_zip(path: Path) -> None:
    torch.save({"state_dict": collections.OrderedDict(STATE), "epoch": 3}, path)


def as_old(path: Path) -> None:
    torch.save(STATE, path, _use_new_zipfile_serialization=False)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("write", [as_safetensors, as_zip, as_old])
def test_damage_of_every_kind(write: Callable[[Path], None], tmp_path: Path) -> None:
    """2,000 damaged files of each format: each opens, or is refused by an error of ours."""
    path, good = tmp_path / "x.ckpt", 0
    write(path)
    raw = path.read_bytes()
    for data in mutated(raw, 2000):
        path.write_bytes(data)
        good += not refused(path)
    assert good < 1500


@pytest.mark.filterwarnings("ignore")
def test_damage_within_the_pickle(tmp_path: Path) -> None:
    """Behind a sound archive, where damage to the whole file seldom comes: 2,000 more."""
    buffer = tmp_path / "x.pt"
    as_zip(buffer)
    with zipfile.ZipFile(buffer) as file:
        members = {name.partition("/")[2]: file.read(name) for name in file.namelist()}
    pickled, opened = members.pop("data.pkl"), 0
    storages = {name.replace("/", "_"): content for name, content in members.items() if name.startswith("data/")}
    for data in mutated(pickled, 2000):
        opened += not refused(archive(tmp_path / "y.pt", data, **storages))
    assert opened < 1750
