"""What a picture says about how it was painted: enough to paint it again, and to know when that cannot be."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, model_validator

from latentbrush.devices import precision
from latentbrush.errors import UserError, one_line, short
from latentbrush.model import LatentDiffusion
from latentbrush.origin import Origin
from latentbrush.request import Batch, ImageRequest, Precision

__all__ = [
    "MachineRecord",
    "ModelRecord",
    "PictureRecord",
    "differences",
    "files_of",
    "machine_of",
    "parse_record",
    "record_of",
]

SHA256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(max_length=300)]


class _Record(BaseModel):
    """What later versions add is no error."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class ModelRecord(_Record):
    """The model's files. `weights`: path within its folder -> SHA-256; `settings`: of all JSON and text files together.

    `sampler`: the one it was read with instead of its own scheduler. Empty for a model that was never a folder.
    `refiner`: the same of the model that painted the last levels, if one did.
    """

    weights: Mapping[Name, SHA256] = {}
    settings: SHA256 | None = None
    sampler: Name | None = None
    refiner: ModelRecord | None = None


class MachineRecord(_Record):
    """On what was computed; `dtype` under torch's name."""

    device: Name = "cpu"
    dtype: Precision = "float32"
    threads: Annotated[StrictInt, Field(ge=1)] | None = None


class PictureRecord(_Record):
    """Picture `index` of a resolved request, and all that its pixels depend on beside.

    `steps_run`: how many of the request's steps painted it; a strength below 1 leaves some out. `batch`: with
    which others it was painted; kernels round by its size. None, as in the first pictures: as the request says.
    """

    request: ImageRequest
    index: Annotated[StrictInt, Field(ge=0)]
    steps_run: Annotated[StrictInt, Field(ge=0)]
    batch: Batch | None = None
    model: ModelRecord = ModelRecord()
    machine: MachineRecord = MachineRecord()
    versions: Mapping[Name, Name] = {}

    @model_validator(mode="after")
    def _index_within(self) -> PictureRecord:
        first, size = self.painted_in.first, self.painted_in.size
        if not first <= self.index < first + size <= self.request.sampling.count:
            raise ValueError(
                f"picture {self.index} in a batch of {size} from {first} on, of {self.request.sampling.count} in all, "
                "cannot be"
            )
        return self

    @property
    def painted_in(self) -> Batch:
        """The batch, told or as the request says."""
        if self.batch is not None:
            return self.batch
        sampling = self.request.sampling
        first = self.index // sampling.batch_size * sampling.batch_size
        return Batch(first=first, size=min(sampling.batch_size, max(sampling.count - first, 1)))

    @property
    def seed(self) -> int | None:
        """The picture's own."""
        first = self.request.sampling.seed
        return None if first is None else first + self.index


def record_of(
    model: LatentDiffusion, request: ImageRequest, *, index: int, batch: Batch, steps_run: int
) -> PictureRecord:
    """The record of a picture that `model` painted, here and now, of a resolved request."""
    files = files_of(model)
    if request.model.safety_check and model.origin is not None and model.safety_origin is not None:
        files = files.model_copy(update={"weights": {**files.weights, **model.safety_origin.weights}})
    if request.stages and model.refiner is not None:
        files = files.model_copy(update={"refiner": files_of(model.refiner)})
    return PictureRecord(
        request=request,
        index=index,
        steps_run=steps_run,
        batch=batch,
        model=files,
        machine=machine_of(model),
        versions={"latentbrush": _our_version(), "torch": torch.__version__},
    )


def _below(folder: str, origin: Origin | None) -> dict[str, str]:
    """The files of a part that came from elsewhere."""
    return {} if origin is None else {f"{folder}/{name}": digest for name, digest in origin.weights.items()}


def parse_record(text: str, name: str) -> PictureRecord:
    """A record from its JSON; `name`, of the file, stands in the errors. UserError for what is no record."""
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise TypeError
        return PictureRecord.model_validate(fields)
    except ValidationError as error:
        raise UserError(f"the request in {name} is not one of version 1: {one_line(error)}") from None
    except (ValueError, TypeError, RecursionError):  # not JSON, or JSON of another shape
        raise UserError(f"the request in {name} is damaged; give a PNG painted here, with its metadata") from None


def machine_of(model: LatentDiffusion) -> MachineRecord:
    """Where `model` computes, and how precisely."""
    return MachineRecord(
        device=model.device.type,
        dtype=precision(model.dtype),  # type: ignore[arg-type]  # pydantic checks it
        threads=torch.get_num_threads(),
    )


def files_of(model: LatentDiffusion) -> ModelRecord:
    """The files that `model` was read from, its exchanged parts' among them."""
    origin = model.origin
    if origin is None:
        return ModelRecord()
    weights = dict(origin.weights)
    if model.exchanged is not None:  # nothing is painted by the model's own
        weights = {name: digest for name, digest in weights.items() if not name.startswith(("vae/", "vqvae/"))}
        weights |= _below("exchanged_vae", model.exchanged.origin)
    weights |= _below("fast_decoder", model.fast_origin)
    return ModelRecord(weights=weights, settings=origin.settings, sampler=origin.sampler)


def _other_files(then: ModelRecord, now: ModelRecord, what: str) -> Iterator[str]:
    if not then.weights:
        yield f"the picture does not say by which weights {'it was painted' if what == 'model' else 'it was refined'}"
    for path in sorted(then.weights.keys() | now.weights.keys() if then.weights else ()):
        before, after = then.weights.get(path), now.weights.get(path)
        if before is None or after is None:
            where = f"this {what} has no such file" if after is None else f"only this {what} has such a file"
            yield f"the weights {short(path)}: {where}"
        elif before != after:
            yield f"the weights {short(path)}: SHA-256 {after[:10]}..., painted with {before[:10]}..."
    if then.settings not in (None, now.settings):
        yield f"the {what}'s settings: its JSON or text files are not those that the picture was painted with"


def differences(then: PictureRecord, now: PictureRecord) -> Iterator[str]:
    """What is not as it was when the picture was painted, a line each."""
    yield from _other_files(then.model, now.model, "model")
    if then.model.refiner is not None:
        yield from _other_files(then.model.refiner, now.model.refiner or ModelRecord(), "refiner")
    for library in sorted(then.versions):
        if then.versions[library] != now.versions.get(library):
            yield f"{short(library)}: {now.versions.get(library)}, painted with {short(then.versions[library])}"
    for key, before in then.machine:
        after = getattr(now.machine, key)
        if before not in (None, after):
            yield f"{key}: {after}, painted with {short(before)}"


def _our_version() -> str:
    try:
        return version("latentbrush")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
