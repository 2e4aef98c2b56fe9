"""Archives around a pickle that lie of what they hold: refused in one line that names the file."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest
import torch
from crafted import archive, dumped, read_all, refusal, view

from latentbrush.formats.store import open_tensors

pytestmark = [pytest.mark.capability("safe-loading"), pytest.mark.capability("single-file")]


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
