"""An autoencoder or a text tower by itself, as a folder of diffusers or transformers or as a single file.

In single files an autoencoder has CompVis's names, with `first_stage_model.` before them or without; a text tower
those of transformers, and its projection beside it if it has one. What such a file does not say is told by its shapes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentbrush.errors import UserError, short
from latentbrush.files import read_json
from latentbrush.formats.alone_configs import autoencoder_config, text_config
from latentbrush.formats.compvis import UNET_PREFIX, Stored, autoencoder_places, layout
from latentbrush.formats.empty import without_memory
from latentbrush.formats.fields import Fields
from latentbrush.formats.index import INDEX, read_index
from latentbrush.formats.laid_out import LaidOut
from latentbrush.formats.links import refuse_links_out
from latentbrush.formats.network import KINDS
from latentbrush.formats.parts import PARTS, readers_of
from latentbrush.formats.settings import METADATA, header_texts
from latentbrush.formats.shipped import resolve_model, shipped_models
from latentbrush.formats.store import Entry, TensorFile, open_tensors
from latentbrush.formats.weights import as_finite, check_weights, find_weights
from latentbrush.model import LatentDiffusion
from latentbrush.nn import AutoencoderConfig, AutoencoderKL, TinyAutoencoder
from latentbrush.origin import Origin

__all__ = ["Alone", "layout_alone", "open_alone", "with_autoencoder"]

FIRST_STAGE = "first_stage_model."
MARKS = {"vae": "decoder.mid.block_1.norm1.weight", "text_encoder": "embeddings.token_embedding.weight"}
"""Part -> a key that every file of it has, behind one of its prefixes."""
TOWER = "text_model."
PREFIXES = {"vae": ("", FIRST_STAGE), "text_encoder": (TOWER, "")}
PROJECTION = "text_projection.weight"
"""Of a text tower that shares a space with pictures, such as Stable Diffusion XL's second."""
COUNTERS = ("model_ema.decay", "model_ema.num_updates")
STAGES = ("vae", "vqvae")
"""What a model calls its autoencoder."""
CLASSES = {"AutoencoderKL": "vae", "AutoencoderTiny": "vae"}
QUANTISED = "VQModel"


@dataclass(frozen=True)
class Alone:
    """One part in its folder or file. `network`: its shapes, on the meta device; `config`: as config.json says it.

    `told`: who says so, `doubt`: what is assumed. `state(dtype)`: its parameters by our names, None for their own type.
    """

    part: str
    path: Path
    network: nn.Module
    config: Mapping[str, Any]
    entries: tuple[Entry, ...]
    origin: Origin
    state: Callable[[torch.dtype | None], Mapping[str, Tensor]]
    told: str = ""
    doubt: str = ""

    def filled(self, dtype: torch.dtype) -> nn.Module:
        """The network with its weights, in eval mode."""
        self.network.load_state_dict(dict(self.state(dtype)), strict=True, assign=True)
        return self.network.eval()


def open_alone(
    path: str | Path, *, config: str | Path | None = None, like: AutoencoderConfig | None = None
) -> Alone | None:
    """A part by itself; None where the path is that of a whole model, or of nothing.

    `config`: the folder whose config.json describes a file. `like`: of an autoencoder for the same latents, from
    which is taken what a file does not say. UserError, as strict as for whole models, for what does not fit.
    """
    if not str(path) or (str(path) in shipped_models() and not isinstance(path, Path)):
        return None
    place = Path(path).expanduser() if str(path).startswith("~/") else Path(path)
    try:
        folder, file = place.is_dir(), place.is_file()
    except (OSError, ValueError):  # a name that no disk can have
        return None
    if file:
        return _in_file(open_tensors(place), config, like)
    if not folder or (place / INDEX).is_file() or not (place / "config.json").is_file():
        return None
    if config is not None:
        raise UserError(f"the option config is for single files, and {str(path)!r} is none; leave it out")
    return _in_folder(place)


def with_autoencoder(model: LatentDiffusion, vae: str | Path | None) -> LatentDiffusion:
    """The model itself, with the autoencoder of a folder, a file or another model from now on, if one is given.

    UserError as `open_alone`, and where its latents are not those of the model.
    """
    if vae is None:
        return model
    own = model.autoencoder.config
    like = own if isinstance(own, AutoencoderConfig) else None
    alone = open_alone(vae, like=like)
    if alone is None and not Path(vae).is_file():
        alone = _in_stage(vae)
    if alone is None or alone.part != "vae":
        raise UserError(f"{str(vae)!r} is no autoencoder; give a vae folder, or a file that holds one alone")
    autoencoder = alone.filled(model.dtype)
    assert isinstance(autoencoder, AutoencoderKL | TinyAutoencoder)
    return model.exchange_autoencoder(autoencoder, str(vae), alone.origin)


def _in_stage(vae: str | Path) -> Alone | None:
    """The autoencoder of a model, which may be one that ships; None of a folder that is none."""
    try:
        folder = resolve_model(vae)
    except UserError:
        raise UserError(
            f"the vae {short(str(vae))} does not exist; give the folder or file of an autoencoder, or a model's folder "
            "(--vae)"
        ) from None
    whole = (folder / INDEX).is_file()
    stages = [part for part in read_index(folder).parts if part in STAGES] if whole else [""]
    if not stages:
        raise UserError(f"the vae {short(str(vae))} is a model of pixels, which has no autoencoder; give another")
    refuse_links_out(folder, stages)
    place = folder / stages[0]
    if not whole and not (place / "config.json").is_file():
        return None
    if read_json(place / "config.json").get("_class_name") == QUANTISED:
        raise UserError(f"{place} is a VQ autoencoder, --vae takes only one of {', '.join(CLASSES)}; give another")
    return _in_folder(place)


def _in_folder(folder: Path) -> Alone | None:
    refuse_links_out(folder)
    config = read_json(folder / "config.json")
    part = CLASSES.get(str(config.get("_class_name")))
    if config.get("model_type") == "clip_text_model":
        part = (
            "text_encoder_2" if "CLIPTextModelWithProjection" in (config.get("architectures") or ()) else "text_encoder"
        )
    if part is None:
        return None
    read, make = readers_of(part, folder)
    network = _empty(make, read(Fields(folder / "config.json", config)))
    stem, names = KINDS[part]
    found = check_weights(network, folder, stem, names)

    def state(dtype: torch.dtype | None) -> Mapping[str, Tensor]:
        files = {path: open_tensors(path) for path in find_weights(folder, stem)}
        return {name: as_finite(entry, files[entry.file].read(entry.key), dtype) for name, entry in found.items()}

    origin = Origin(folder, [*find_weights(folder, stem), folder / "config.json"], [], None)
    return Alone(part, folder, network, config, tuple(found.values()), origin, state)


def _in_file(file: TensorFile, config: str | Path | None, like: AutoencoderConfig | None) -> Alone | None:
    found = _found(file)
    if found is None:
        return None
    part, prefix = found
    known, doubt = _stated(file, part, config), ""
    if known is None:
        guess = autoencoder_config(file, prefix, like) if part == "vae" else text_config(file, prefix, PROJECTION)
        known, doubt = (guess.config, Fields(file.path, guess.config), guess.told), guess.doubt
    content, fields, told = known
    read, make = PARTS[part]
    network = _empty(make, read(fields))
    layouts = {part: layout_alone(part, network, prefix)}
    beside = {*COUNTERS, f"{prefix}embeddings.position_ids"}
    laid = LaidOut(file, {part: network}, layouts, beside, (f"{prefix}loss.", "loss."))
    origin = Origin(file.path.parent, [file.path], [], None, f"{told}; {doubt}" if doubt else "")
    return Alone(
        part,
        file.path,
        network,
        content,
        tuple(laid.entries(part)),
        origin,
        lambda dtype: laid.state(part, dtype),
        told,
        doubt,
    )


def _found(file: TensorFile) -> tuple[str, str] | None:
    """The part that a file holds, and what its keys begin with; None for a whole model, and for what is neither."""
    keys = file.entries.keys()
    if any(key.startswith((UNET_PREFIX, "model_ema.diffusion_model")) for key in keys):
        return None
    for part, mark in MARKS.items():
        for prefix in PREFIXES[part]:
            if prefix + mark in keys and not any(key.startswith("vision_model.") for key in keys):
                return "text_encoder_2" if part == "text_encoder" and PROJECTION in keys else part, prefix
    return None


def _stated(file: TensorFile, part: str, config: str | Path | None) -> tuple[Mapping[str, Any], Fields, str] | None:
    """The settings that a folder or the file's own header have for it."""
    if config is not None:
        folder = Path(config).expanduser()
        path = (folder / part if (folder / INDEX).is_file() else folder) / "config.json"
        content = read_json(path)
        return content, Fields(path, content), f"as {config} says"
    name = f"{part}/config.json"
    if METADATA not in file.metadata:
        return None
    try:
        content = json.loads(header_texts(file)[name])
        if not isinstance(content, dict):
            raise ValueError
    except (KeyError, ValueError, RecursionError):
        raise UserError(f"{file.path}: the settings in its header have no sound {name}; convert it anew") from None
    return content, Fields(Path(f"{file.path}: {name}"), content), "as its own header says"


def layout_alone(part: str, network: nn.Module, prefix: str) -> dict[str, Stored]:
    """Key in a single file -> what lies there. `prefix`: of all keys, but that of a tower's projection."""
    names = network.state_dict()
    if isinstance(network, AutoencoderKL):
        return layout(names, autoencoder_places(network.config), prefix)
    if isinstance(network, TinyAutoencoder):
        raise UserError("a tiny autoencoder has no single-file layout here; keep it as a folder, as diffusers has them")
    theirs = KINDS[part][1]
    keys = {name: theirs.theirs(name) for name in names}
    keys |= {name: prefix + key.removeprefix(TOWER) for name, key in keys.items() if key.startswith(TOWER)}
    return {key: Stored(key, (name,)) for name, key in keys.items()}


def _empty(make: Callable[[Any], nn.Module], config: Any) -> nn.Module:
    with without_memory():
        return make(config)
