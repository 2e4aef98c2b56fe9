"""The guard of tests/conftest.py works, and painting, saving and loading get along with it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import torch

from latentbrush import ImageRequest, Sampling, generate, load
from latentbrush.formats import save_model
from latentbrush.model import LatentDiffusion

ADDRESS = ("192.0.2.1", 80)  # RFC 5737: an address that belongs to nobody


def connect() -> None:
    socket.create_connection(ADDRESS, timeout=0.01)


def connect_ex() -> None:
    with socket.socket() as sock:
        sock.connect_ex(ADDRESS)


def send() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"", ADDRESS)


def look_up() -> None:
    socket.getaddrinfo("example.org", 80)


def read() -> None:
    urlopen("http://example.org", timeout=0.01)


@pytest.mark.capability("offline")
@pytest.mark.parametrize("reach", [connect, connect_ex, send, look_up, read])
def test_the_network_is_blocked(no_network: Any, reach: Callable[[], None]) -> None:
    with pytest.raises(RuntimeError, match="network blocked"):
        reach()
    assert len(no_network.attempts) == 1
    no_network.attempts.clear()  # this one was meant


def test_unix_sockets_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a Unix socket must be short
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("s")
        server.listen()
        client.connect("s")


@pytest.mark.usefixtures("loopback")
def test_loopback_works_where_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def test_libraries_are_told_and_workers_have_one_thread() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"
    assert torch.get_num_threads() == 1


@pytest.mark.capability("offline")
def test_save_load_and_paint_offline(make_model: Callable[..., LatentDiffusion], tmp_path: Path) -> None:
    """The fixture `no_network` fails this test if any of it reaches out."""
    request = ImageRequest(prompt="a red cat", sampling=Sampling(steps=2, seed=1))
    model = make_model()
    save_model(model, tmp_path / "model")
    [expected], [found] = generate(model, request), generate(load(tmp_path / "model"), request)
    assert found.image.tobytes() == expected.image.tobytes()
