"""From one format to another: every tensor keeps its numbers, and its type unless another is asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from latentbrush.errors import UserError, short
from latentbrush.files import read_json, whole_file, write_json
from latentbrush.formats.alone import Alone, layout_alone, open_alone
from latentbrush.formats.finite import all_finite
from latentbrush.formats.folder import assemble
from latentbrush.formats.index import INDEX, UNUSED_PARTS
from latentbrush.formats.kinds import BERT, TOWERS
from latentbrush.formats.links import refuse_links_out
from latentbrush.formats.network import KINDS
from latentbrush.formats.opening import single_file
from latentbrush.formats.replace import replaced_folder
from latentbrush.formats.scheduler import SchedulerError
from latentbrush.formats.settings import (
    METADATA,
    SCHEDULER,
    checked_prediction,
    copy_settings,
    header_of,
    settings_in,
    settings_of,
)
from latentbrush.formats.shipped import resolve_model
from latentbrush.formats.single import SingleFile, Weights, behind_keys, empty_networks, layouts_of
from latentbrush.formats.store import open_tensors
from latentbrush.formats.weights import TooLargeError, check_weights
from latentbrush.model import LatentDiffusion
from latentbrush.origin import Origin

__all__ = ["BEHIND", "Conversion", "Format", "convert"]

Format = Literal["diffusers", "single-file"]
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
SUFFIX = ".safetensors"
BEHIND = "open_clip.safetensors"
"""In a folder that was a single file: what its OpenCLIP tower has there and no model here. In the tower's folder."""

State = Callable[[str], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Conversion:
    """What was written: the path, how many tensors and bytes, and a line for whatever was left out or assumed."""

    path: Path
    tensors: int
    size: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """A model in any format. `state`: part -> parameters by our names; `behind`: OpenCLIP's own, by the file's key;
    `folder`: where parts lie that are copied as they are."""

    settings: Path
    state: State
    behind: Mapping[str, Tensor]
    folder: Path | None
    notes: tuple[str, ...]


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    to: str,
    dtype: str | None = None,
    weights: Weights | None = None,
    prediction: str | None = None,
    config: str | Path | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Write the model `source`, a folder, single file or shipped name, as a folder (diffusers) or a single file.

    So, too, an autoencoder or a text tower by itself.

    `dtype`: float16, bfloat16 or float32; None for each tensor's own. `weights`, `prediction`, `config`: as in
    `load_model`. The destination appears whole or not at all. UserError for what cannot be read, a destination
    that is there, unless `overwrite`, and numbers that `dtype` cannot hold.
    """
    if to not in get_args(Format):
        raise UserError(f"format {short(to)} is unknown; choose one of {', '.join(get_args(Format))}")
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"dtype {short(dtype)} is unknown; choose one of {', '.join(DTYPES)}")
    target = Path(destination).expanduser()
    if to == "single-file":
        _check_file(target, overwrite=overwrite)
    kind = None if dtype is None else DTYPES[dtype]
    alone = open_alone(source, config=config)
    if alone is not None:
        for name, value in (("weights", weights), ("prediction", prediction)):
            if value is not None:
                raise UserError(f"--{name} is for whole models, and {str(source)!r} is a part of one; leave it out")
        return _convert_alone(alone, target, to, kind, overwrite=overwrite)
    with _opened(source, weights, prediction, config) as model:
        if to == "single-file":
            return _write_file(model, target, kind)
        with replaced_folder(target, overwrite=overwrite, ours=(INDEX,)) as new:
            written = _write_folder(model, new, kind)
    return Conversion(target, *written, model.notes)


@contextmanager
def _opened(
    source: str | Path, weights: Weights | None, prediction: str | None, config: str | Path | None
) -> Iterator[_Source]:
    chosen = checked_prediction(prediction)
    path = single_file(source)
    if path is not None:
        file = open_tensors(path)
        with settings_of(file, config=config, prediction=chosen) as settings:
            single = SingleFile(file, empty_networks(settings.directory), weights)
            single.check_schedule(_outlined(settings.directory).schedule)
            notes = [f"{settings.told}, prediction {_prediction(settings.directory)}"]
            notes += [settings.doubt] if settings.doubt else []
            notes += [f"{single.left_out} tensors of the other weights were left out"] if single.left_out else []
            notes += ["the network that estimates depth was left out"] if single.has_depth_model else []
            kept = {key: single.finite(key) for key in single.kept}
            yield _Source(settings.directory, single.state, kept, None, tuple(notes))
        return
    for name, value in (("weights", weights), ("config", config)):
        if value is not None:
            raise UserError(f"--{name} is for single files, and {str(source)!r} is none; leave it out")
    folder = resolve_model(source)
    with settings_in(folder, prediction=chosen) as settings:
        _outlined(settings.directory)
        yield _Source(settings.directory, _folder_state(folder), _behind_in(folder), folder, ())


def _outlined(settings: Path) -> LatentDiffusion:
    """The model without its weights, which are strictly read by themselves. UserError where no model could be opened
    by these settings, so that none is written with them."""
    try:
        return assemble(settings, None, lambda part, network: None, Origin(settings, [], [], None))
    except SchedulerError as error:
        raise UserError(f"{error.what}; what is converted must open as it is: correct {SCHEDULER} first") from None


def _convert_alone(alone: Alone, target: Path, to: str, dtype: torch.dtype | None, *, overwrite: bool) -> Conversion:
    """One part by itself, with its settings in a single file's header."""
    stem, names = KINDS[alone.part]
    notes = tuple(note for note in (alone.told, alone.doubt) if note)
    state = alone.state(None)
    if to == "single-file":
        layout = layout_alone(alone.part, alone.network, "" if alone.part == "vae" else "text_model.")
        tensors = {key: stored.pack([state[name] for name in stored.names]) for key, stored in layout.items()}
        texts = {f"{alone.part}/config.json": json.dumps(alone.config, indent=2)}
        size = _save(tensors, target, dtype, {METADATA: json.dumps(texts)})
        return Conversion(target, len(tensors), size, notes)
    with replaced_folder(target, overwrite=overwrite, ours=("config.json",)) as new:
        write_json(new / "config.json", alone.config)
        tensors = {names.theirs(name): tensor for name, tensor in state.items()}
        size = _save(tensors, new / f"{stem}.safetensors", dtype, {"format": "pt"})
        if alone.part in TOWERS:
            _describe_types(new / "config.json")
    return Conversion(target, len(tensors), size, notes)


def _folder_state(folder: Path) -> State:
    networks = empty_networks(folder)

    def state(part: str) -> Mapping[str, Tensor]:
        stem, names = KINDS[part]
        found = check_weights(networks[part], folder / part, stem, names)
        tensors = {}
        for path in dict.fromkeys(entry.file for entry in found.values()):
            file = open_tensors(path)
            tensors.update({name: file.read(entry.key) for name, entry in found.items() if entry.file == path})
        return tensors

    return state


def _behind_in(folder: Path) -> Mapping[str, Tensor]:
    networks = empty_networks(folder)
    if not any(part in TOWERS for part in networks):
        return {}
    path = folder / _last_tower(networks) / BEHIND
    if not path.is_file():
        return {}
    file = open_tensors(path)
    known = behind_keys(networks)
    for key in file.entries:
        if key not in known:
            raise UserError(f"{file.path} holds {short(key)}, which is nothing of OpenCLIP's; remove that file")
    return {key: file.read(key) for key in file.entries}


def _last_tower(networks: Iterable[str]) -> str:
    return max(part for part in networks if part in TOWERS)


def _prediction(directory: Path) -> object:
    return read_json(directory / SCHEDULER).get("prediction_type", "epsilon")


def _check_file(path: Path, *, overwrite: bool) -> None:
    if path.name == SUFFIX:
        raise UserError(f"{path} has no letters before its ending; give a name such as model{SUFFIX}")
    if path.suffix != SUFFIX:
        raise UserError(
            f"{path} does not end with {SUFFIX}, the one single-file format that is written; "
            f"name it {path.stem}{SUFFIX}"
        )
    if path.is_dir():
        raise UserError(f"{path} is a folder; choose another name")
    if path.exists() and not overwrite:
        raise UserError(f"{path} is there already; choose another name, or overwrite it (--overwrite)")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path.parent} does not exist; make the folder first")


def _write_file(model: _Source, path: Path, dtype: torch.dtype | None) -> Conversion:
    networks = empty_networks(model.settings)
    tensors: dict[str, Tensor] = {}
    for part, layout in layouts_of(networks).items():
        state = model.state(part)
        for key, stored in layout.items():
            tensors[key] = stored.pack([state[name] for name in stored.names])
    tensors |= model.behind
    size = _save(tensors, path, dtype, header_of(model.settings))
    notes = list(model.notes)
    for part in UNUSED_PARTS:
        if model.folder is not None and (model.folder / part).is_dir():
            notes.append(f"{part} has no place in a single file and was left out")
    return Conversion(path, len(tensors), size, tuple(notes))


def _write_folder(model: _Source, new: Path, dtype: torch.dtype | None) -> tuple[int, int]:
    """Returns the number of tensors and of bytes."""
    count = size = 0
    copy_settings(model.settings, new)
    networks = empty_networks(new)
    for part in networks:
        stem, names = KINDS[part]
        tensors = {names.theirs(name): tensor for name, tensor in model.state(part).items()}
        count += len(tensors)
        size += _save(tensors, new / part / f"{stem}.safetensors", dtype, {"format": "pt"})
        if part in (*TOWERS, BERT):
            _describe_types(new / part / "config.json")
    if model.behind:
        count += len(model.behind)
        size += _save(dict(model.behind), new / _last_tower(networks) / BEHIND, dtype, {"format": "pt"})
    for part in UNUSED_PARTS:
        if model.folder is not None and (model.folder / part).is_dir():
            refuse_links_out(model.folder, (part,))
            shutil.copytree(model.folder / part, new / part)
    return count, size


def _describe_types(path: Path) -> None:
    """transformers casts to the type that is said here, and diffusers' default loading wants all parts in one."""
    content = read_json(path)
    if {"torch_dtype", "dtype"} & content.keys():
        content.pop("torch_dtype", None)
        write_json(path, {**content, "dtype": "float32"})


def _save(tensors: dict[str, Tensor], path: Path, dtype: torch.dtype | None, metadata: Mapping[str, str]) -> int:
    """Returns the bytes written. UserError for a number that is not finite, or that `dtype` cannot hold."""
    state = {}
    for key, tensor in tensors.items():
        state[key] = (tensor if dtype is None else tensor.to(dtype)).contiguous()
        if state[key].numel() and not all_finite(state[key]):
            if not all_finite(tensor):
                raise UserError(f"{key} holds numbers that are not finite; copy or download the model again")
            assert dtype is not None
            raise TooLargeError(key, dtype, path)
    with whole_file(path) as unfinished:
        try:
            save_file(state, unfinished, metadata=dict(metadata))
        except SafetensorError as error:
            reason = " ".join(str(error).split())
            raise UserError(f"cannot write {path} ({reason}); make room or choose another place") from None
    return path.stat().st_size
