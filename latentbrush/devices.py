"""Where and how precisely a model computes: chosen by name, and sensibly where nothing is said."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from typing import Any, get_args

import torch
from torch import Tensor, nn

from latentbrush.errors import UserError
from latentbrush.request import Precision

__all__ = [
    "CPU",
    "HALVES",
    "OneAtATime",
    "autocast",
    "choose_device",
    "choose_dtype",
    "computer_memory",
    "devices",
    "enough_memory",
    "in_float32",
    "memory_for",
    "not_finite",
    "out_of_memory",
    "precision",
    "whole_float32",
]

HALVES = (torch.float16, torch.bfloat16)
"""The types that overflow, or round, where float32 does not."""
CPU = torch.device("cpu")


def devices() -> list[str]:
    """The names of what is there: cpu, and cuda:0, cuda:1, xpu:0 or mps."""
    names = ["cpu"]
    for kind in (torch.cuda, torch.xpu):
        if kind.is_available():
            names += [f"{kind.__name__.rpartition('.')[2]}:{i}" for i in range(kind.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """auto is the first accelerator, or else the CPU; cuda is the first of its kind. UserError for what is not here."""
    there = devices()
    if name == "auto":
        return torch.device(there[1] if len(there) > 1 else "cpu")
    for device in there:
        if str(name) in (device, device.partition(":")[0]):
            return torch.device(device)
    raise UserError(f"device {str(name)!r} is not here; choose one of auto, {', '.join(there)}")


def choose_dtype(name: str | torch.dtype, device: torch.device, stored: torch.dtype) -> torch.dtype:
    """auto is float32, but on an accelerator half precision where the weights are `stored` so.

    On a CPU auto never means halves, which few compute fast: one seed paints one picture on all of them.
    UserError for other names.
    """
    names = get_args(Precision)
    text = str(name).removeprefix("torch.")
    if text in names:
        chosen = getattr(torch, text)
        assert isinstance(chosen, torch.dtype)
        return chosen
    if text != "auto":
        raise UserError(f"dtype {text!r} is unknown; choose one of auto, {', '.join(names)}")
    if device == CPU or stored not in HALVES:
        return torch.float32
    if stored is torch.bfloat16 and not (device.type == "cuda" and torch.cuda.is_bf16_supported()):
        return torch.float32
    return stored


def precision(dtype: torch.dtype) -> str:
    """A type's name, as a request has it."""
    return str(dtype).removeprefix("torch.")


def autocast(device: torch.device, dtype: str) -> AbstractContextManager[Any]:
    """Within it products and convolutions on `device` run in bfloat16, if `dtype` says so, weights stay as they are.

    `dtype`: bfloat16 or float32, which changes nothing.
    """
    return nullcontext() if dtype == "float32" else torch.autocast(device.type, getattr(torch, dtype))


@contextmanager
def whole_float32() -> Iterator[None]:
    """Within it float32 is computed with all its digits, of which NVIDIA's cards else drop 13 bits, to be faster."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def out_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Does it say that memory ran out? torch has a type of its own for GPUs; on the CPU only the text says so."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


@contextmanager
def enough_memory(what: str, remedy: str) -> Iterator[None]:
    """Too little memory for `what` is the user's to mend: a UserError that names the `remedy`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"not enough memory for {what}; {remedy}") from error


def computer_memory() -> float:
    """Bytes of this computer's own memory; infinite on systems that do not say."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return math.inf


def memory_for(what: str, needed: int, remedy: str) -> None:
    """UserError, with the `remedy`, where `what` needs more bytes than the computer has.

    Asked before they are taken: systems grant memory that is not there, and end whoever then writes into it.
    """
    there = computer_memory()
    if needed > there:
        raise UserError(
            f"{what} take {needed / 1e9:.3g} GB of memory, more than the {there / 1e9:.3g} GB here; {remedy}"
        )


def not_finite(batch: Tensor) -> list[int]:
    """The places in a batch (B, ...) that hold a number which is not finite."""
    spoilt = ~batch.isfinite().flatten(1).all(1)
    return [int(i) for i in spoilt.nonzero()]


@contextmanager
def in_float32(*modules: nn.Module) -> Iterator[None]:
    """Within it the modules compute in float32; weights in half precision come back bit for bit."""
    # Some have no weights at all.
    before = {module: parameter.dtype for module in modules for parameter in islice(module.parameters(), 1)}
    try:
        for module in before:
            _move(module, dtype=torch.float32)
        yield
    finally:
        for module, dtype in before.items():
            _move(module, dtype=dtype)


class OneAtATime:
    """Of several parts only the one at work is on the device; the others wait in the computer's own memory.

    `parts`: each part with the modules whose call asks for it. A part stays until another is asked for, so
    that a UNet is moved once a batch, not once a step.
    """

    def __init__(self, device: torch.device, parts: Mapping[nn.Module, Sequence[nn.Module]]) -> None:
        self.device = device
        self._parts = list(parts)
        self._present: nn.Module | None = None
        for part in self._parts:
            _move(part, device=CPU)
        self._hooks = [
            entry.register_forward_pre_hook(self._asked_for(part))
            for part, entries in parts.items()
            for entry in entries
        ]

    def _asked_for(self, part: nn.Module) -> Any:
        return lambda *_: self.take(part)

    def take(self, part: nn.Module) -> None:
        """Bring `part` onto the device, after what was there has gone."""
        if part is self._present:
            return
        if self._present is not None:
            _move(self._present, device=CPU)
        self._present = part
        _move(part, device=self.device)

    def rest(self) -> None:
        """Take away what is on the device, for another model's part."""
        if self._present is not None:
            _move(self._present, device=CPU)
            self._present = None

    def release(self) -> None:
        """Parts stay where they are from now on."""
        for hook in self._hooks:
            hook.remove()


def _move(module: nn.Module, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
    # Weights that were made in inference mode could never be trained again.
    with torch.inference_mode(False):
        module.to(device=device, dtype=dtype)
