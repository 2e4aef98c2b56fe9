"""Weights of one network: found in its folder and read strictly, written as safetensors. Nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from latentbrush.devices import precision
from latentbrush.errors import UserError
from latentbrush.files import read_json, whole_file
from latentbrush.formats.finite import all_finite
from latentbrush.formats.keys import Names
from latentbrush.formats.store import Entry, open_tensors

__all__ = [
    "TooLargeError",
    "as_finite",
    "check_weights",
    "find_weights",
    "load_file",
    "load_weights",
    "save_weights",
    "stored_dtype",
]

FLOATS = ("F16", "BF16", "F32", "F64")
HALVES = {"F16": torch.float16, "BF16": torch.bfloat16}
SHOWN = 3
PICKLED: Mapping[str, str] = {"model": "pytorch_model"}
"""What transformers calls a file of torch.save where its safetensors have another name."""


class TooLargeError(UserError):
    """A weight that half precision cannot hold, and float32 can; `what` says which."""

    def __init__(self, key: str, dtype: torch.dtype, path: Path) -> None:
        self.what = f"{key} is too large for {precision(dtype)}"
        super().__init__(f"{self.what} and would spoil {path}; save as float32")


def find_weights(directory: Path, stem: str) -> list[Path]:
    """The files of a network: `stem`.safetensors, its shards, or else a variant (`stem`.fp16.safetensors).

    Where there is none of those, files of torch.save by the same rules (.bin), which are read as data. Of several
    variants fp16 is taken. UserError where there are no files, or several others.
    """
    for name, kind in ((stem, "safetensors"), (PICKLED.get(stem, stem), "bin")):
        found = _files(directory, name, kind)
        if found:
            return found
    raise UserError(f"{directory / f'{stem}.safetensors'} is missing; copy or download the whole folder again")


def _files(directory: Path, stem: str, kind: str) -> list[Path]:
    plain = directory / f"{stem}.{kind}"
    if plain.is_file():
        return [plain]
    index = directory / f"{stem}.{kind}.index.json"
    if index.is_file():
        return _shards(index)
    found = [path for path in sorted(directory.glob(f"{stem}.*.{kind}")) if "-of-" not in path.name]
    variants = {path.name[len(stem) + 1 : -len(kind) - 1]: path for path in found}
    if len(variants) > 1 and "fp16" not in variants:
        names = ", ".join(path.name for path in found)
        raise UserError(f"{plain} is missing and {names} are there; rename the one to use to {plain.name}")
    if variants:
        return [variants.get("fp16") or found[0]]
    for index in sorted(directory.glob(f"{stem}.{kind}.index.*.json")):
        return _shards(index)
    return []


def _shards(index: Path) -> list[Path]:
    """The files an index names, all of them directly in its folder."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(v, str) for v in places.values()):
        raise UserError(f"{index} has no weight_map of tensors and their files; copy it again")
    files = []
    for name in sorted(set(places.values())):
        path = index.parent / name
        plain = name == Path(name).name and "\\" not in name and name not in ("", ".", "..")
        if not plain:
            raise UserError(f"{index} names {name!r}, which leads out of its folder; copy that file into it")
        if not path.is_file():
            raise UserError(f"{path} is missing, though {index.name} names it; copy the whole folder again")
        files.append(path)
    entries = {entry.key: entry.file.name for path in files for entry in _entries(path)}
    for key in places.keys() | entries.keys():
        if places.get(key) != entries.get(key):
            raise UserError(
                f"{index} has {key!r} in {places.get(key)}, but it lies in {entries.get(key)}; "
                "copy the whole folder again"
            )
    return files


def _entries(path: Path) -> list[Entry]:
    return list(open_tensors(path).entries.values())


def load_weights(network: nn.Module, directory: Path, stem: str, names: Names, dtype: torch.dtype) -> None:
    """Fill `network`, which may be on the meta device, with the weights in `directory`, as `dtype`.

    UserError as `check_weights`, before any data is read; and for a number that is not finite, or not as `dtype`.
    """
    _load(network, check_weights(network, directory, stem, names), dtype)


def load_file(network: nn.Module, path: Path, names: Names, dtype: torch.dtype, what: str) -> None:
    """Fill `network` with the weights of one file, as strictly as `load_weights`. `what`: it is, in messages."""
    _load(network, _check(_wanted(network), _entries(path), names, path, what), dtype)


def _load(network: nn.Module, entries: Mapping[str, Entry], dtype: torch.dtype) -> None:
    state: dict[str, Tensor] = {}
    for path in dict.fromkeys(entry.file for entry in entries.values()):
        file = open_tensors(path)
        for name, entry in entries.items():
            if entry.file == path:
                state[name] = as_finite(entry, file.read(entry.key), dtype)
    network.load_state_dict(state, strict=True, assign=True)


def as_finite(entry: Entry, stored: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of a file as `dtype`, or as it is stored. UserError for a number that is not finite, or not so."""
    loaded = stored.to(dtype or stored.dtype).contiguous()  # files of torch.save may hold turned ones
    if not all_finite(loaded):
        if not all_finite(stored):
            raise UserError(f"{entry.file}: {entry.key} holds numbers that are not finite; copy or download it again")
        raise UserError(
            f"{entry.file}: {entry.key} holds numbers too large for {precision(loaded.dtype)}; load it as float32"
        )
    return loaded


def stored_dtype(directory: Path, stem: str) -> torch.dtype:
    """The half precision that all tensors of a network are stored in, else float32."""
    kinds = {entry.dtype for path in find_weights(directory, stem) for entry in _entries(path)}
    return HALVES.get(kinds.pop(), torch.float32) if len(kinds) == 1 else torch.float32


def check_weights(network: nn.Module, directory: Path, stem: str, names: Names) -> dict[str, Entry]:
    """The tensors in the files for every name of `network`, from the files' headers alone.

    Strict: every missing, unused or repeated tensor, and every one of a wrong shape or kind, is a
    UserError that names it and the file.
    """
    files = find_weights(directory, stem)
    return _check(_wanted(network), [entry for path in files for entry in _entries(path)], names, files[0])


def _wanted(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _check(
    wanted: Mapping[str, tuple[int, ...]], entries: list[Entry], names: Names, file: Path, asks: str = "config.json"
) -> dict[str, Entry]:
    """Our names -> the tensors in the files, exactly those that are wanted. `asks`: what says which those are."""
    found: dict[str, Entry] = {}
    for entry in entries:
        name = names.ours(entry.key)
        if name is None:
            continue
        if name in found:
            raise UserError(f"{entry.file} holds {name!r} twice, as {found[name].key!r} and {entry.key!r}")
        found[name] = entry
    missing = [names.theirs(name) for name in wanted if name not in found]
    unused = [entry.key for name, entry in found.items() if name not in wanted]
    if missing:
        raise UserError(f"{file} lacks {listed(missing)} that {asks} asks for{_also(unused)}")
    if unused:
        raise UserError(f"{file} holds {listed(unused)} that {asks} does not ask for")
    shapes = [
        f"{entry.key} {list(entry.shape)} instead of {list(wanted[name])}"
        for name, entry in found.items()
        if entry.shape != wanted[name]
    ]
    if shapes:
        raise UserError(f"{file} disagrees with {asks} about the shape of {listed(shapes)}")
    kinds = [f"{entry.key} {entry.dtype}" for entry in found.values() if entry.dtype not in FLOATS]
    if kinds:
        raise UserError(f"{file} holds {listed(kinds)}; weights must be one of {', '.join(FLOATS)}")
    return found


def listed(names: list[str]) -> str:
    count = f"{len(names)} tensor{'s' if len(names) > 1 else ''}: "
    return count + ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _also(unused: list[str]) -> str:
    return f", and holds {listed(unused)} instead" if unused else ""


def save_weights(network: nn.Module, path: Path, names: Names, dtype: torch.dtype) -> None:
    """Write all parameters as `dtype`, under a temporary name first, so that no half file ever stands.

    UserError for a number that is not finite; TooLargeError for one that `dtype` cannot hold.
    """
    state = {}
    for name, tensor in network.state_dict().items():
        key = names.theirs(name)
        state[key] = tensor.detach().to(device="cpu", dtype=dtype).contiguous()
        if not all_finite(state[key]):
            if not all_finite(tensor.detach()):
                raise UserError(f"{key} is not finite and would spoil {path}; save an earlier state")
            raise TooLargeError(key, dtype, path)
    with whole_file(path) as unfinished:
        try:
            save_file(state, unfinished, metadata={"format": "pt"})
        except SafetensorError as error:
            raise UserError(f"cannot write {path} ({error}); make room or choose another place") from None
