"""Files of torch.save from before torch 1.6: read as torch reads them, and refused in one line where they mean harm."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from latentbrush.errors import LONGEST, UserError
from latentbrush.formats import opcodes
from latentbrush.formats.store import TensorFile, open_tensors

pytestmark = [pytest.mark.capability("safe-loading"), pytest.mark.capability("old-torch-files")]

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
FOUR = struct.pack("<4f", 1, 2, 3, 4)


class Call:
    """Pickled, a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


class Storage:
    """Pickled, a reference to a storage."""

    def __init__(self, *more: Any, kind: Any = torch.FloatStorage, key: Any = "0", count: Any = 4) -> None:
        self.identity = ("storage", kind, key, "cpu", count, *more)


def dumped(content: Any) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return value.identity if isinstance(value, Storage) else None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue()


def view(offset: Any = 0, shape: Any = (4,), strides: Any = (1,), storage: Storage | None = None) -> Call:
    rebuild = torch._utils._rebuild_tensor_v2
    return Call(rebuild, storage or Storage(None), offset, shape, strides, False, OrderedDict())


def stored(*counted: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack("<q", count) + data for count, data in counted)


def old(
    path: Path,
    content: Any,
    keys: Any = ("0",),
    data: bytes = stored((4, FOUR)),
    *,
    magic: Any = MAGIC,
    protocol: Any = PROTOCOL,
    system: Any = SYSTEM,
) -> Path:
    """A file as torch 0.1 to 1.5 wrote it, with anything in it; bytes stand for a pickle already made."""
    body = content if isinstance(content, bytes) else dumped(content)
    listed = keys if isinstance(keys, bytes) else dumped(list(keys))
    path.write_bytes(b"".join([dumped(magic), dumped(protocol), dumped(system), body, listed, data]))
    return path


def read_all(file: TensorFile) -> dict[str, torch.Tensor]:
    return {key: file.read(key) for key in file.entries}


def refusal(path: Path, *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        read_all(open_tensors(path))
    line = str(caught.value)
    for part in (str(path), *parts):
        assert part in line
    assert line.isprintable()
    assert len(line) < LONGEST + 10


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("wrapped", [True, False])
def test_tensors_come_as_torch_reads_them(wrapped: bool, protocol: int, tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    state = {
        "byte": torch.arange(3, dtype=torch.uint8),  # what follows begins at an odd place
        "halves": torch.arange(6.0).half(),
        "row": base[1],
        "turned": base.T,
        "part": base[1:3, 2:5],
        "none": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        **{str(kind): torch.ones(3).to(kind) for kind in (torch.bfloat16, torch.float64, torch.int8, torch.bool)},
    }
    path = tmp_path / "old.pt"
    content = {"state_dict": OrderedDict(state), "epoch": 3} if wrapped else state
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    expected = torch.load(path, weights_only=False)  # the other reader knows protocol 2 alone
    found = read_all(open_tensors(path))
    assert list(found) == list(state)
    for key, tensor in (expected["state_dict"] if wrapped else expected).items():
        assert found[key].dtype == tensor.dtype
        assert torch.equal(found[key], tensor), key
    found["row"].zero_()
    assert torch.equal(read_all(open_tensors(path))["row"], base[1])  # the file stays as it was


@pytest.mark.parametrize("pair", [list, tuple])
def test_an_ordered_dict_of_python_2(pair: Any, tmp_path: Path) -> None:
    """It was given its items as a list when it was made; the LPIPS package's published weights are such files."""
    items = [pair(["first", view()]), pair(["second", view(2, (2,))])]
    found = read_all(open_tensors(old(tmp_path / "old.pt", Call(OrderedDict, items))))
    assert {key: tensor.tolist() for key, tensor in found.items()} == {"first": [1, 2, 3, 4], "second": [3, 4]}


@pytest.mark.parametrize("items", [[["a"]], [["a", 1, 2]], [3], ["ab"], [[1, 2]], [[["a"], 2]]])
def test_an_ordered_dict_of_anything_else_is_none(items: Any, tmp_path: Path) -> None:
    refusal(old(tmp_path / "old.pt", Call(OrderedDict, items), keys=(), data=b""), "holds no dict of tensors")


def test_what_only_older_torch_wrote(tmp_path: Path) -> None:
    """Storages that are a part of another, the first function that made tensors, and no word of parts at all."""
    part = Storage(("1", 1, 3))
    first = Call(torch._utils._rebuild_tensor, Storage(), 2, (2,), (1,))  # type: ignore[no-untyped-call]
    content = {"part": view(1, (2,), (1,), part), "first": first, "turned": view(0, (2, 2), (1, 2))}
    found = read_all(open_tensors(old(tmp_path / "old.pt", content)))
    assert found["part"].tolist() == [3, 4]
    assert found["first"].tolist() == [3, 4]
    assert found["turned"].tolist() == [[1, 3], [2, 4]]
    refusal(old(tmp_path / "x.pt", {"a": view(2, (2,), (1,), part)}), "larger than the 3 numbers it is a view of")
    refusal(old(tmp_path / "x.pt", {"a": view(storage=Storage(("1", 2, 3)))}), "a part of 3 numbers from 2 on of one")


@pytest.mark.parametrize("function", [os.system, eval, getattr, torch.load, torch.nn.Linear])
def test_calls_are_refused_by_name(function: Any, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    call = Call(function, f"open({str(mark)!r}, 'w')" if function is eval else f"touch {mark}")
    for place in ("content", "keys", "magic", "protocol", "system"):
        given: dict[str, Any] = {"content": {"a": view()}} | {place: [call] if place == "keys" else call}
        path = old(tmp_path / "x.ckpt", **given)
        refusal(path, "which could run code")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"magic": 5}, "a pickle that torch.save did not write"),
        ({"magic": [MAGIC]}, "does not begin with the magic number"),
        ({"protocol": 1002}, "its protocol is not 1001"),
        ({"protocol": [1001]}, "its protocol is not 1001"),
        ({"system": {**SYSTEM, "little_endian": False}}, "big-endian"),
        ({"system": [1]}, "big-endian"),
        ({"keys": ["0", "0"]}, "its list of storages is not that of its tensors"),
        ({"keys": []}, "its list of storages is not that of its tensors"),
        ({"keys": ["1"]}, "its list of storages is not that of its tensors"),
        ({"keys": [0]}, "no list of its storages"),
        ({"keys": dumped({"0": 1})}, "no list of its storages"),
        ({"keys": b""}, "again"),
        ({"data": stored((5, FOUR + b"1234"))}, "a storage of 4 numbers says that it has 5"),
        ({"data": stored((-1, FOUR))}, "a storage of 4 numbers says that it has -1"),
        ({"data": stored((2**62, FOUR))}, "a storage of 4 numbers says that it has 4611686018427387904"),
        ({"data": stored((4, FOUR[:-1]))}, "within its storages"),
        ({"data": b"\x04\0\0"}, "within its storages"),
        ({"data": b""}, "says that it has 0"),
        ({"data": stored((4, FOUR)) + b"x"}, "1 bytes behind its last storage"),
        ({"content": {"a": view(storage=Storage(count=2**40))}}, "says that it has 4"),
        ({"content": {"a": view(), "b": view(storage=Storage(count=5))}}, "describe one storage in two ways"),
        (
            {"content": {"a": view(), "b": view(storage=Storage(kind=torch.HalfStorage))}},
            "describe one storage in two ways",
        ),
        ({"content": {"a": view(storage=Storage(kind=torch.Size))}}, "describes a storage in no known way"),
        ({"content": {"a": view(storage=Storage(key=0))}}, "describes a storage in no known way"),
        ({"content": {"a": view(storage=Storage(count=True))}}, "describes a storage in no known way"),
        ({"content": {"a": view(storage=Storage(None, None))}}, "describes a storage in no known way"),
        ({"content": {"a": view(storage=Storage(("1", -1, 2)))}}, "describes a storage in no known way"),
        ({"content": b"\x80\x02(Nu."}, "damaged"),
        ({"content": b"\x80\x02}K\x00Q."}, "describes a storage in no known way"),
        ({"content": b"\x80\x02i0s\nos\n."}, "INST"),
        ({"content": b"\x80\x02X\xff\xff\xff\x7fabc."}, "expected 2147483647 bytes"),
    ],
)
def test_files_that_lie(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    refusal(old(tmp_path / "x.ckpt", **{"content": {"a": view()}, **changes}), said)


@pytest.mark.parametrize(
    "arguments",
    [
        *((0, (1000, 1000), (0, 0)), (0, (5,), (1,)), (1, (4,), (1,)), (0, (2, 2), (1, 3)), (-1, (1,), (1,))),
        *((0, (-1,), (1,)), (0, (4,), (-1,)), (0, (2**62,), (1,)), (0, (2,), ()), (0, (True,), (1,)), (0, [2], [1])),
        (0, (1,) * 40, (1,) * 40),
    ],
)
def test_views_out_of_bounds(arguments: Any, tmp_path: Path) -> None:
    refusal(old(tmp_path / "x.ckpt", {"a": view(*arguments)}), "tensor")


def test_an_empty_tensor_whose_strides_torch_cannot_write(tmp_path: Path) -> None:
    content = {"a": view(0, (0, 2**47, 2**47), (0, 0, 0))}
    refusal(old(tmp_path / "x.ckpt", content), "Stride calculation overflowed")


def test_endless_memos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nested = b"K\x01\x85q\x00" + b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(60))
    for place in ("content", "keys"):  # hashed, compared or shown, they would take 2^60 steps
        for pickled in (b"\x80\x02}" + nested + b"K\x01s.", b"\x80\x02" + nested + b"."):
            refusal(old(tmp_path / "x.ckpt", **{"content": {"a": view()}, place: pickled}))
    head = b"".join(dumped(value) for value in (MAGIC, PROTOCOL))
    (tmp_path / "y.ckpt").write_bytes(head + b"\x80\x02" + nested + b".")
    refusal(tmp_path / "y.ckpt", "big-endian")
    monkeypatch.setattr(opcodes, "MOST_OPCODES", 1000)
    refusal(old(tmp_path / "z.ckpt", b"\x80\x02" + b"}" * 2000 + b"."), "more than 1000 opcodes")


def test_a_file_cut_after_it_was_opened(tmp_path: Path) -> None:
    path = old(tmp_path / "x.ckpt", {"a": view()})
    file = open_tensors(path)
    with path.open("r+b") as cut:
        cut.truncate(path.stat().st_size - 4)
    with pytest.raises(UserError, match="it was cut after it was opened"):
        file.read("a")
