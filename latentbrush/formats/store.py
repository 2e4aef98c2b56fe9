"""Files of tensors, whatever they are called: safetensors or torch.save's two formats, told apart by their content."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError, safe_open
from torch import Tensor

from latentbrush.errors import UserError, short
from latentbrush.formats.opcodes import Made
from latentbrush.formats.torch_legacy import MARK, TorchLegacy
from latentbrush.formats.torch_views import TensorView
from latentbrush.formats.torch_zip import TorchZip

__all__ = ["Entry", "TensorFile", "open_tensors"]

# How files begin that are often taken for a checkpoint, what they are, and what to do.
OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x80", "a pickle that torch.save did not write, which could run code", "get it as .safetensors"),
    (b"version https://git-lfs", "the pointer that git keeps instead of the file", "run git lfs pull"),
    (b"GGUF", "a GGUF file", "get it as .safetensors"),
    (b"\x89HDF", "an HDF5 file", "get it as .safetensors"),
    (b"<", "a page of a web site, not the file it should have been", "download it again"),
    (b"{", "a text file of settings", "give the file of the weights"),
)
MOST_SHARED = 2
"""All tensors together, by the file's size. Weights that are tied are in the file once and read twice; any number of
views of one storage would be copied as often."""
WRAPPER = "state_dict"
# What trainers write beside `state_dict`, and nothing that is painted depends on.
BESIDE_WRAPPER = frozenset(
    {"epoch", "global_step", "pytorch-lightning_version", "loops", "callbacks", "hyper_parameters", "hparams_name"}
    | {"optimizer", "optimizer_states", "lr_schedulers", "hparams", "loss", "native_amp_scaling_state"}
    | {"state_dict_ema_decay", "MixedPrecisionPlugin", "NativeMixedPrecisionPlugin"}
)


@dataclass(frozen=True)
class Entry:
    """A tensor in a file, as its header describes it."""

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: str


class TensorFile(Protocol):
    """An open file of tensors: `entries` by key, `metadata` from its header, and the tensors themselves."""

    path: Path
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]

    def read(self, key: str) -> Tensor: ...


def _safe_open(path: Path) -> Any:
    """Any: the library has no types."""
    return safe_open(path, framework="pt")


class _Safetensors:
    def __init__(self, path: Path) -> None:
        self.path = path
        found: dict[str, Entry] = {}
        try:
            self._file = file = _safe_open(path)
            for key in file.keys():  # noqa: SIM118  # it is no mapping
                piece = file.get_slice(key)
                found[key] = Entry(path, key, tuple(piece.get_shape()), piece.get_dtype())
            self.metadata: Mapping[str, str] = file.metadata() or {}
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"{path} is no sound safetensors file ({error}); copy or download it again") from None
        self.entries: Mapping[str, Entry] = found

    def read(self, key: str) -> Tensor:
        try:
            found: Tensor = self._file.get_tensor(key)
        except (SafetensorError, OSError, ValueError, AttributeError, RuntimeError) as error:
            raise UserError(f"{self.path}: {short(key)} cannot be read ({error}); copy or download it again") from None
        return found


class _Torch(Protocol):
    """Either of torch.save's formats."""

    root: Any

    def view(self, value: Any) -> TensorView | None: ...

    def read(self, view: TensorView) -> Tensor: ...


class _TorchFile:
    def __init__(self, path: Path, content: _Torch, size: int) -> None:
        """`size`: bytes of the file."""
        self.path = path
        self.metadata: Mapping[str, str] = {}
        self._content = content
        state = self._state(_items(content.root))
        self._views = {}
        for key, value in state.items():
            view = content.view(value)
            if view is None:
                raise UserError(
                    f"{path}: {short(key)} is no tensor, and not among what is known to lie beside them; "
                    "take it out, or get the file as .safetensors"
                )
            self._views[key] = view
        whole = sum(view.size for view in self._views.values())
        if whole > MOST_SHARED * size:
            raise UserError(
                f"{path} describes tensors of {whole} bytes, but has {size}, and at most {MOST_SHARED} times those "
                "are read; get the file as .safetensors"
            )
        self.entries: Mapping[str, Entry] = {
            key: Entry(path, key, view.shape, view.kind) for key, view in self._views.items()
        }

    def _state(self, root: dict[Any, Any] | None) -> dict[str, Any]:
        """What lies under `state_dict`, or all where there is no such wrapper; without what is known beside it."""
        if root is None or not root:
            raise UserError(f"{self.path} holds no dict of tensors; give a checkpoint's file")
        inner = _items(root.get(WRAPPER))
        state = root if inner is None else inner
        if inner is not None:
            for key in root:
                if key != WRAPPER and key not in BESIDE_WRAPPER:
                    raise UserError(f"{self.path} holds {short(key)} beside state_dict, which is unknown; take it out")
        kept = {key: value for key, value in state.items() if inner is not None or key not in BESIDE_WRAPPER}
        for key in kept:
            if not isinstance(key, str):
                raise UserError(f"{self.path} has a tensor under {short(str(key))}, which is no text; get another file")
        return kept

    def read(self, key: str) -> Tensor:
        return self._content.read(self._views[key])


def _items(value: object) -> dict[Any, Any] | None:
    """The items of a dict or OrderedDict, None for anything else."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Made) and str(value.function) == "collections.OrderedDict":
        pairs = _pairs(value.arguments)
        return None if pairs is None else pairs | value.items
    return None


def _pairs(arguments: tuple[Any, ...]) -> dict[str, Any] | None:
    """What Python 2 gave an OrderedDict when it was made: a list of [key, value]. Later ones are filled afterwards."""
    if not arguments:
        return {}
    found: dict[str, Any] = {}
    for pair in arguments[0] if len(arguments) == 1 and isinstance(arguments[0], list) else [None]:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            return None
        found[pair[0]] = pair[1]
    return found


def open_tensors(path: Path) -> TensorFile:
    """Open a file of tensors; only its header is read. UserError, in one line, for what is of no known kind."""
    if not path.is_file():
        raise UserError(f"{path} is no file; give a .safetensors or .ckpt file")
    try:
        with path.open("rb") as file:
            begin, size = file.read(32), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}); choose another file") from None
    if not begin:
        raise UserError(f"{path} is empty; copy or download it again")
    if begin.startswith(b"PK\x03\x04"):
        return _TorchFile(path, TorchZip(path), size)
    if begin.startswith(b"\x80") and MARK in begin:
        return _TorchFile(path, TorchLegacy(path), size)
    if begin[8:9] == b"{":
        return _Safetensors(path)
    for start, what, remedy in OTHERS:
        if begin.startswith(start):
            raise UserError(f"{path} is {what}; {remedy}")
    raise UserError(f"{path} is neither a safetensors file nor one of torch.save; give a checkpoint's file")
