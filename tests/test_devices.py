"""Where a model computes and how precisely; and networks that wait elsewhere until they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from latentbrush import ImageRequest, Sampling, devices, generate, load
from latentbrush.devices import choose_device, choose_dtype, enough_memory, whole_float32
from latentbrush.errors import UserError
from latentbrush.formats import save_model
from latentbrush.model import LatentDiffusion

MakeModel = Callable[..., LatentDiffusion]
CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (torch.cuda, torch.xpu, torch.backends.mps):
        monkeypatch.setattr(kind, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_without_an_accelerator_auto_is_the_cpu() -> None:
    assert devices.devices() == ["cpu"]
    assert choose_device() == choose_device("cpu") == choose_device(CPU) == CPU
    for name in ("cuda", "cuda:0", "mps", "meta", "", "gpu", "cpu:x"):
        with pytest.raises(UserError, match=rf"device '{name}' is not here; choose one of auto, cpu$"):
            choose_device(name)


@pytest.mark.capability("device-options")
@pytest.mark.usefixtures("no_gpu", "two_gpus")
def test_with_accelerators_auto_is_the_first() -> None:
    assert choose_device() == choose_device("cuda") == choose_device(GPU) == GPU
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match=r"'cuda:2' is not here; choose one of auto, cpu, cuda:0, cuda:1$"):
        choose_device("cuda:2")


@pytest.mark.parametrize(
    ("name", "device", "stored", "chosen"),
    [
        ("auto", CPU, FULL, FULL),
        ("auto", CPU, HALF, FULL),
        ("auto", CPU, BRAIN, FULL),
        ("auto", GPU, FULL, FULL),
        ("auto", GPU, HALF, HALF),
        ("auto", torch.device("mps"), HALF, HALF),
        ("auto", torch.device("mps"), BRAIN, FULL),
        ("float16", CPU, FULL, HALF),
        ("bfloat16", GPU, HALF, BRAIN),
        (torch.float32, GPU, HALF, FULL),
    ],
)
def test_types(name: Any, device: torch.device, stored: torch.dtype, chosen: torch.dtype) -> None:
    assert choose_dtype(name, device, stored) is chosen


@pytest.mark.parametrize("able", [True, False])
def test_bfloat16_is_chosen_where_a_gpu_has_it(monkeypatch: pytest.MonkeyPatch, able: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: able)
    assert choose_dtype("auto", GPU, BRAIN) is (BRAIN if able else FULL)


def test_unknown_types_are_refused() -> None:
    with pytest.raises(UserError, match=r"dtype 'int8' is unknown; choose one of auto, float32, float16, bfloat16"):
        choose_dtype(torch.int8, CPU, FULL)


@pytest.mark.capability("device-options")
def test_a_model_is_loaded_as_it_is_asked_for(make_model: MakeModel, tmp_path: Path) -> None:
    save_model(make_model(), tmp_path / "half", dtype=HALF)
    assert load(tmp_path / "half", device="cpu").dtype == FULL
    model = load(tmp_path / "half", dtype="bfloat16", device="cpu")
    kinds = {p.dtype for part in (model.autoencoder, model.unet, model.text) for p in part.parameters()}
    assert kinds == {BRAIN}
    with pytest.raises(UserError, match="device 'tpu' is not here"):
        load(tmp_path / "nowhere", device="tpu")


REQUEST = ImageRequest(prompt="a red cat", sampling=Sampling(steps=3, seed=1, count=2, batch_size=1))


@pytest.mark.capability("low-memory")
def test_in_low_memory_one_network_at_a_time_is_on_the_device(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CPU, under another of its names, stands for the device."""
    expected = [np.asarray(image.image) for image in generate(make_model(), REQUEST)]
    model = make_model()
    parts: dict[nn.Module, str] = {model.text: "text", model.unet: "unet", model.autoencoder: "autoencoder"}
    there: set[str] = set(parts.values())
    arrivals: list[str] = []
    work: list[tuple[str, set[str]]] = []

    def moved(module: nn.Module, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        assert dtype is None
        if device == torch.device("cpu:0"):
            there.add(parts[module])
            arrivals.append(parts[module])
        else:
            assert device == CPU
            there.discard(parts[module])

    monkeypatch.setattr(devices, "_move", moved)
    assert model.one_part_on("cpu:0") is model
    assert model.device == torch.device("cpu:0")
    assert there == set()  # nothing is brought before it is needed
    for module, name in (
        (model.text.encoder, "text"),
        (model.unet, "unet"),
        (model.autoencoder.decoder, "autoencoder"),
    ):
        module.register_forward_pre_hook(lambda *_, name=name: work.append((name, set(there))))
    found = [np.asarray(image.image) for image in generate(model, REQUEST)]
    assert all(present == {name} for name, present in work)
    assert [name for name, _ in work] == (["text"] * 2 + ["unet"] * 3 + ["autoencoder"]) * 2
    assert arrivals == ["text", "unet", "autoencoder"] * 2  # once a batch, not once a step
    for one, other in zip(expected, found, strict=True):
        assert np.array_equal(one, other)

    model.to("cpu")
    model.text(["a"])
    assert model.device == CPU
    assert len(arrivals) == 6


def test_low_memory_serves_encoding_too(make_model: MakeModel) -> None:
    model = make_model().one_part_on("cpu:0")
    pixels = torch.zeros(1, 3, 32, 32)
    assert torch.equal(model.autoencoder.encode(pixels).mean, make_model().autoencoder.encode(pixels).mean)
    assert {p.requires_grad and not p.is_inference() for p in model.autoencoder.parameters()} == {True}


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: no")]
)
def test_too_little_memory_is_the_users_error(error: Exception) -> None:
    with pytest.raises(UserError, match="not enough memory for 3; choose fewer"), enough_memory("3", "choose fewer"):
        raise error


def test_another_error_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes"), enough_memory("3", "choose fewer"):
        raise RuntimeError("shapes")


def test_float32_is_whole_within_and_as_before_after() -> None:
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    with pytest.raises(KeyError), whole_float32():
        assert [flag.allow_tf32 for flag in flags] == [False, False]
        raise KeyError
    assert [flag.allow_tf32 for flag in flags] == before
    assert True in before  # else this would show nothing
