"""What holds for every test: no network, one thread a worker; and a tiny model of our own."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from latentbrush.model import LatentDiffusion

# Set before torch and huggingface_hub are imported, for they read them once; commands run by tests inherit
# them. One thread a process: the workers of pytest-xdist are as many as there are cores.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
# Models are loaded onto a GPU where there is one; the tests mean the same on every machine.
os.environ["CUDA_VISIBLE_DEVICES"] = ""

MakeModel = Callable[..., "LatentDiffusion"]
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class NetworkBlockedError(RuntimeError):
    """A test reached for the network. No OSError, which libraries take for a bad connection and go on."""


@dataclass
class NetworkGuard:
    """`attempts`: the addresses that were refused; `loopback`: this machine may talk to itself."""

    attempts: list[str] = field(default_factory=list)
    loopback: bool = False

    def check(self, family: int, address: Any) -> None:
        if family == socket.AF_UNIX or (self.loopback and isinstance(address, tuple) and address[0] in LOOPBACK):
            return
        self.attempts.append(str(address))
        raise NetworkBlockedError(f"a connection to {address}; tests run with the network blocked")


@pytest.fixture(scope="session", autouse=True)
def network_guard() -> Iterator[NetworkGuard]:
    """Refuse every connection from this process but to Unix sockets. Session-wide, so that no fixture escapes."""
    guard = NetworkGuard()

    def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
        # The address comes last in connect, connect_ex and sendto.
        def call(sock: socket.socket, *args: Any) -> Any:
            guard.check(sock.family, args[-1])
            return method(sock, *args)

        return call

    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        if host is not None:  # None is this machine's own addresses, to listen on
            guard.check(socket.AF_INET, (host, *args))
        return look_up(host, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, guarded(getattr(socket.socket, name)))
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield guard


@pytest.fixture(autouse=True)
def no_network(network_guard: NetworkGuard) -> Iterator[NetworkGuard]:
    """Fail the test that tried, even where the code under test swallowed the refusal."""
    network_guard.attempts.clear()
    yield network_guard
    assert not network_guard.attempts, f"the test reached for the network: {network_guard.attempts}"


@pytest.fixture
def loopback(no_network: NetworkGuard) -> Iterator[None]:
    """For tests of servers: this machine may talk to itself."""
    no_network.loopback = True
    yield
    no_network.loopback = False


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """A command that was interrupted is deaf to it until its process ends; this one goes on."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def debian_emoji() -> None:
    """Skip where the packages are missing; fail in CI, where a skipped test would hide that they are."""
    from latentbrush.data.emoji.draw import FONT
    from latentbrush.data.emoji.source import CLDR_DIRECTORY, EMOJI_TEST

    packages = {
        FONT: "fonts-noto-color-emoji",
        EMOJI_TEST: "unicode-data",
        CLDR_DIRECTORY / "annotations" / "ko.xml": "unicode-cldr-core",
    }
    missing = sorted(package for path, package in packages.items() if not path.exists())
    if missing:
        message = f"install Debian's packages {', '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """Builds our own tiny model: pictures 32 x 32, f = 4, random weights, the same at every call.

    Keywords are those of `LatentDiffusion`. No diffusers, whose import takes longer than all the painting.
    """
    import torch

    from latentbrush.conditioning import TextConditioner, train_tokenizer
    from latentbrush.model import LatentDiffusion
    from latentbrush.nn import AutoencoderConfig, AutoencoderKL, CLIPTextConfig, CLIPTextModel, UNet, UNetConfig

    tokenizer = train_tokenizer(["a red cat, a blue dog and the quick brown fox, 빨간 하트"] * 2, 530, 12)

    def make(**options: Any) -> LatentDiffusion:
        autoencoder = AutoencoderKL(AutoencoderConfig(channels=(8, 8, 8), layers_per_block=1, groups=4, sample_size=32))
        unet = UNet(
            UNetConfig(
                sample_size=8,
                channels=(8, 16),
                layers_per_block=1,
                attention=(True, False),
                heads=(2, 2),
                depth=(1, 1),
                context_width=16,
                groups=4,
            )
        )
        encoder = CLIPTextModel(
            CLIPTextConfig(vocab_size=tokenizer.vocab_size, width=16, layers=2, heads=2, mlp_width=32, max_positions=12)
        )
        generator = torch.Generator().manual_seed(0)
        for network in (autoencoder, unet, encoder):
            for name, parameter in network.named_parameters():
                # Initialisation leaves the UNet's output zero; here every number is its own.
                noise = torch.randn(parameter.shape, generator=generator)
                ones = parameter.ndim == 1 and name.endswith("weight")
                scale = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
                parameter.data.copy_(scale * noise + ones)
            network.eval()
        return LatentDiffusion(autoencoder, unet, TextConditioner(tokenizer, encoder).eval(), **options)

    return make
