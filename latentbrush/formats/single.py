"""Single files of the CompVis and Stability layout -> models: which tensor of the file is which parameter.

Strict, as folders are: every tensor of the file is a parameter, an average of one, or on a short list of what is
known to lie in such files without being painted with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from latentbrush.devices import precision
from latentbrush.diffusion import Schedule
from latentbrush.errors import UserError, short
from latentbrush.files import read_json
from latentbrush.formats import configs
from latentbrush.formats.compvis import (
    EMA,
    UNET_PREFIX,
    Place,
    Stored,
    autoencoder_places,
    clip_places,
    ema_key,
    layout,
    open_clip_places,
    unet_places,
)
from latentbrush.formats.empty import without_memory
from latentbrush.formats.fields import Fields
from latentbrush.formats.store import TensorFile
from latentbrush.formats.weights import FLOATS, HALVES, Entry, all_finite, listed
from latentbrush.nn import AutoencoderKL, CLIPTextModel, UNet

__all__ = ["SingleFile", "Weights", "behind_keys", "empty_networks", "layouts_of"]

Weights = Literal["ema", "raw"]
OPEN_CLIP_PREFIX = "cond_stage_model.model."
CLIP_PREFIX = "cond_stage_model.transformer."
TABLES = frozenset(
    {"betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"}
    | {"log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod"}
    | {"posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"}
    | {"lvlb_weights", "logvar"}
)
"""The noise schedule's, all computed from its betas."""
DROPPED = TABLES | {
    *(f"{EMA}decay", f"{EMA}num_updates", "scale_factor"),
    *(f"{CLIP_PREFIX}{name}" for name in ("text_model.embeddings.position_ids", "embeddings.position_ids")),
    *(f"{CLIP_PREFIX}text_projection.weight", "cond_stage_model.logit_scale", "cond_stage_model.text_projection"),
    f"{OPEN_CLIP_PREFIX}attn_mask",
}
DROPPED_BELOW = ("first_stage_model.loss.", "model_ema.first_stage_model", "model_ema.cond_stage_model")
READERS: Mapping[str, tuple[Callable[[Fields], Any], Callable[[Any], nn.Module]]] = {
    "vae": (configs.read_autoencoder_config, AutoencoderKL),
    "unet": (configs.read_unet_config, UNet),
    "text_encoder": (configs.read_text_config, CLIPTextModel),
}
SCHEDULE_TOLERANCE = 2e-3
"""Of the table of alphas; in half precision it is off by a quarter of that."""


def empty_networks(directory: Path) -> dict[str, nn.Module]:
    """Part -> its network on the meta device, by the settings in a folder."""
    networks = {}
    for part, (read_config, make) in READERS.items():
        path = directory / part / "config.json"
        config = read_config(Fields(path, read_json(path)))
        with without_memory():
            networks[part] = make(config)
    return networks


def layouts_of(networks: Mapping[str, nn.Module], *, open_clip: bool | None = None) -> dict[str, dict[str, Stored]]:
    """Part -> key in a single file -> what lies there. `open_clip`: the text tower's form; None: by its activation."""
    unet, vae, text = networks["unet"], networks["vae"], networks["text_encoder"]
    assert isinstance(unet, UNet)
    assert isinstance(vae, AutoencoderKL)
    assert isinstance(text, CLIPTextModel)
    if open_clip is None:
        open_clip = text.config.activation == "gelu"
    tower: tuple[Iterator[Place], str] = (clip_places(text.config), CLIP_PREFIX)
    if open_clip:
        tower = (open_clip_places(text.config), OPEN_CLIP_PREFIX)
    return {
        "unet": layout(unet.state_dict(), unet_places(unet.config), UNET_PREFIX),
        "vae": layout(vae.state_dict(), autoencoder_places(vae.config), "first_stage_model."),
        "text_encoder": layout(text.state_dict(), *tower),
    }


def behind_keys(text: nn.Module) -> set[str]:
    """Keys of the OpenCLIP layer that Stable Diffusion 2 leaves out, and of what only CLIP's own training asked for."""
    assert isinstance(text, CLIPTextModel)
    layers = text.config.layers
    names = [name for name in text.state_dict() if name.startswith(f"layers.{layers - 1}.")]
    last = layout(names, open_clip_places(text.config), OPEN_CLIP_PREFIX)
    block = f"{OPEN_CLIP_PREFIX}transformer.resblocks."
    behind = {key.replace(f"{block}{layers - 1}.", f"{block}{layers}.", 1) for key in last}
    return {*behind, f"{OPEN_CLIP_PREFIX}text_projection", f"{OPEN_CLIP_PREFIX}logit_scale"}


@dataclass(frozen=True)
class _Source:
    """Where in the file a layout's tensor lies."""

    entry: Entry
    stored: Stored


class SingleFile:
    """The tensors of an open file as the parameters of networks of given shapes; data is read when asked for.

    `weights`: the UNet's moving average or the raw ones; None for the average if there is one. `chosen`: which
    it is; `left_out`: how many tensors of the other kind there are. `kept`: tensors of OpenCLIP's tower behind the
    layer that is read, by key. UserError, naming file and key, for all that is missing, unknown or does not fit.
    """

    def __init__(self, file: TensorFile, networks: Mapping[str, nn.Module], weights: Weights | None = None) -> None:
        self.file, self._path = file, file.path
        keys = file.entries.keys()
        open_clip = any(key.startswith(OPEN_CLIP_PREFIX) for key in keys)
        layouts = layouts_of(networks, open_clip=open_clip)
        if not any(key.startswith(f"{CLIP_PREFIX}text_model.") for key in keys):  # transformers 5 leaves it out
            layouts["text_encoder"] = {
                key.replace(f"{CLIP_PREFIX}text_model.", CLIP_PREFIX): stored
                for key, stored in layouts["text_encoder"].items()
            }
        raw, averages = layouts["unet"], {ema_key(key): stored for key, stored in layouts["unet"].items()}
        self.chosen = self._choice(weights, averages.keys() & keys, raw.keys() & keys)
        self.left_out = len((raw if self.chosen == "ema" else averages).keys() & keys)
        layouts["unet"] = averages if self.chosen == "ema" else raw
        self.kept = sorted(behind_keys(networks["text_encoder"]) & keys) if open_clip else []
        known = {*raw, *averages, *self.kept, *DROPPED}.union(*layouts.values())
        self._check_unknown([key for key in keys if key not in known and not key.startswith(DROPPED_BELOW)])
        shapes = {part: _shapes(network) for part, network in networks.items()}
        self._parts = {part: self._sources(layouts[part], shapes[part]) for part in layouts}

    def _choice(self, weights: Weights | None, averages: set[str], raw: set[str]) -> Weights:
        if weights not in (None, "ema", "raw"):
            raise UserError(f"weights {short(weights)} is unknown; choose ema or raw")
        found: dict[Weights, set[str]] = {"ema": averages, "raw": raw}
        if weights is not None and not found[weights]:
            what, other = ("moving averages", "raw") if weights == "ema" else ("raw weights", "ema")
            raise UserError(f"{self._path} has no {what} of the UNet; leave out --weights or choose {other}")
        return weights or ("ema" if averages else "raw")

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

    def check_schedule(self, schedule: Schedule) -> None:
        """UserError where the file has a table of alphas that is not that of `schedule`."""
        entry = self.file.entries.get("alphas_cumprod")
        if entry is None or entry.dtype not in FLOATS:
            return
        table = self.finite(entry.key).double().flatten()
        ours = schedule.alphas_cumprod.double()
        if table.shape != ours.shape or bool(((table - ours).abs() > SCHEDULE_TOLERANCE).any()):
            end = f"{table[-1]:.5f}" if len(table) else "nothing"
            raise UserError(
                f"{self._path} was trained with another noise schedule than its settings say: its alphas_cumprod ends "
                f"at {end} after {len(table)} steps, not at {ours[-1]:.5f} after {len(ours)}; "
                "give the folder of its settings (--config, in Python config=)"
            )


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
