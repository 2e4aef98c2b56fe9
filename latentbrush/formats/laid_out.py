"""The tensors of an open file as the parameters of networks, by layouts that say which is which.

Strict, as folders are: nothing may be missing or of another shape, and whoever opens a file says what else it may hold.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from latentbrush.devices import precision
from latentbrush.errors import UserError
from latentbrush.formats.compvis import Stored
from latentbrush.formats.finite import all_finite
from latentbrush.formats.store import Entry, TensorFile
from latentbrush.formats.weights import FLOATS, HALVES, listed

__all__ = ["LaidOut"]


@dataclass(frozen=True)
class _Source:
    """Where in the file a layout's tensor lies."""

    entry: Entry
    stored: Stored


class LaidOut:
    """Networks of given shapes in a file; its data is read when asked for.

    `layouts`: part -> key in the file -> what lies there, for each of the `networks`; `beside`, `below`: keys that
    such files are known to hold as well, and what further ones begin with. UserError, naming file and key, for all
    that is missing, unknown or does not fit.
    """

    def __init__(
        self,
        file: TensorFile,
        networks: Mapping[str, nn.Module],
        layouts: Mapping[str, Mapping[str, Stored]],
        beside: Collection[str] = (),
        below: tuple[str, ...] = (),
    ) -> None:
        self.file, self._path = file, file.path
        known = {*beside}.union(*layouts.values())
        self._check_unknown([key for key in file.entries if key not in known and not key.startswith(below)])
        self._parts = {part: self._sources(layouts[part], _shapes(networks[part])) for part in layouts}

    def _check_unknown(self, unknown: list[str]) -> None:
        if unknown:
            raise UserError(
                f"{self._path} holds {listed(unknown)}, unknown in such a model; if that is what it should hold, "
                "it is of another kind than its settings say"
            )

    def _sources(self, wanted: Mapping[str, Stored], shapes: Mapping[str, tuple[int, ...]]) -> list[_Source]:
        entries = self.file.entries
        missing = [key for key in wanted if key not in entries]
        if missing:
            raise UserError(f"{self._path} lacks {listed(missing)} that its settings ask for; get the whole file")
        sources = [_Source(entries[key], stored) for key, stored in wanted.items()]
        wrong = [
            f"{entry.key} {list(entry.shape)} instead of {list(stored.shapes(shapes)[0])}"
            for entry, stored in ((source.entry, source.stored) for source in sources)
            if entry.shape not in stored.shapes(shapes)
        ]
        if wrong:
            raise UserError(f"{self._path} disagrees with its settings about the shape of {listed(wrong)}")
        kinds = [f"{source.entry.key} {source.entry.dtype}" for source in sources if source.entry.dtype not in FLOATS]
        if kinds:
            raise UserError(f"{self._path} holds {listed(kinds)}; weights must be one of {', '.join(FLOATS)}")
        return sources

    def entries(self, part: str) -> list[Entry]:
        return [source.entry for source in self._parts[part]]

    def stored_dtype(self, part: str) -> torch.dtype:
        """The half precision that all tensors of a part are stored in, else float32."""
        kinds = {entry.dtype for entry in self.entries(part)}
        return HALVES.get(kinds.pop(), torch.float32) if len(kinds) == 1 else torch.float32

    def state(self, part: str, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """The parameters of a part by our names, as `dtype` or as stored. UserError for numbers that are not finite."""
        state = {}
        for source in self._parts[part]:
            whole = self.finite(source.entry.key, dtype)
            for name, tensor in zip(source.stored.names, source.stored.unpack(whole), strict=True):
                state[name] = tensor.contiguous()
        return state

    def finite(self, key: str, dtype: torch.dtype | None = None) -> Tensor:
        """One tensor of the file, as `dtype` or as stored. UserError if a number is not finite, or not as `dtype`."""
        stored = self.file.read(key)
        tensor = stored if dtype is None else stored.to(dtype)
        if tensor.numel() and not all_finite(tensor):
            if dtype is not None and all_finite(stored):
                raise UserError(f"{self._path}: {key} holds numbers too large for {precision(dtype)}; choose float32")
            raise UserError(f"{self._path}: {key} holds numbers that are not finite; copy or download it again")
        return tensor


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
