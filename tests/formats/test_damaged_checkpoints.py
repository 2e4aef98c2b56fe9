"""Thousands of damaged checkpoints of every format: each opens, or is refused by an error of ours."""

from __future__ import annotations

import collections
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from crafted import STATE, archive, read_all
from safetensors.torch import save_file

from latentbrush.errors import UserError
from latentbrush.formats.store import open_tensors

pytestmark = [pytest.mark.capability("safe-loading"), pytest.mark.capability("single-file")]


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
