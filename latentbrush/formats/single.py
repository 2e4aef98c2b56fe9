"""Single files of the CompVis and Stability layout -> models: which tensor of the file is which parameter.

Strict, as folders are: every tensor of the file is a parameter, an average of one, or on a short list of what is
known to lie in such files without being painted with.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from latentbrush.diffusion import Schedule
from latentbrush.errors import UserError, short
from latentbrush.formats.compvis import (
    EMA,
    UNET_PREFIX,
    Place,
    Stored,
    autoencoder_places,
    bert_places,
    clip_places,
    ema_key,
    layout,
    open_clip_places,
    unet2d_places,
    unet_places,
    vq_places,
)
from latentbrush.formats.index import read_index
from latentbrush.formats.laid_out import LaidOut
from latentbrush.formats.network import read_network
from latentbrush.formats.parts import readers_in
from latentbrush.formats.store import TensorFile
from latentbrush.formats.weights import FLOATS
from latentbrush.nn import (
    AutoencoderKL,
    ClassToken,
    CLIPTextModel,
    LDMBertModel,
    ProjectedTextModel,
    TinyAutoencoder,
    UNet,
    UNet2D,
    VQAutoencoder,
)

__all__ = ["SMALL", "SingleFile", "Weights", "behind_keys", "empty_networks", "layouts_of"]

Weights = Literal["ema", "raw"]
CLIP_PREFIXES = ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer.")
FIRST_STAGE = "first_stage_model."
BERT_PREFIX = "cond_stage_model.transformer."
OPEN_CLIP_PREFIXES = ("cond_stage_model.model.", "conditioner.embedders.0.model.", "conditioner.embedders.1.model.")
TABLES = frozenset(
    {"betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"}
    | {"log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod"}
    | {"posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"}
    | {"lvlb_weights", "logvar", "denoiser.sigmas"}
)
"""The noise schedule's, all computed from its betas."""
SMALL = "low_scale_model."
"""Of an upscaler: the schedule by which it noises its small pictures."""
DROPPED = TABLES | {
    *(f"{SMALL}{table}" for table in TABLES),
    *(f"{EMA}decay", f"{EMA}num_updates", "scale_factor"),
    *(f"{prefix}text_model.embeddings.position_ids" for prefix in CLIP_PREFIXES),
    *(f"{prefix}embeddings.position_ids" for prefix in CLIP_PREFIXES),
    *(f"{prefix}text_projection.weight" for prefix in CLIP_PREFIXES),
    *("cond_stage_model.logit_scale", "cond_stage_model.text_projection", "v_pred", "ztsnr"),
    *(f"{prefix}attn_mask" for prefix in OPEN_CLIP_PREFIXES),
}
CLASS_PREFIX = COPIES = "cond_stage_model."
"""Of LDM's table of classes; and, in its inpainting model, of the first stage once more, which encodes the masked
picture."""
DEPTH_MODEL = "depth_model."
"""The network that estimates depth, which Stable Diffusion 2's depth-to-image model has in its file."""
DROPPED_BELOW = ("first_stage_model.loss.", "model_ema.first_stage_model", "model_ema.cond_stage_model", DEPTH_MODEL)
SCHEDULE_TOLERANCE = 2e-3
"""Of the table of alphas; in half precision it is off by a quarter of that."""


def empty_networks(directory: Path) -> dict[str, nn.Module]:
    """Part -> its network on the meta device, by the settings in a folder."""

    def nothing(part: str, network: nn.Module) -> None:
        pass

    index = read_index(directory)
    if index.kind.reads == "nothing" and "vqvae" not in index.parts:
        raise UserError(f"{directory} is a model of pixels, which is kept as a folder; it cannot be converted")
    readers = readers_in(directory, index)
    return {part: read_network(part, directory / part, readers[part], nothing) for part in readers}


def layouts_of(networks: Mapping[str, nn.Module], *, open_clip: bool | None = None) -> dict[str, dict[str, Stored]]:
    """Part -> key in a single file -> what lies there.

    `open_clip`: is the one text tower of Stable Diffusion 1 or 2 stored as OpenCLIP's? None: by its activation.
    """
    layouts = {}
    for part, network in networks.items():
        if isinstance(network, UNet):
            places, prefix = unet_places(network.config), UNET_PREFIX
        elif isinstance(network, UNet2D):
            places, prefix = unet2d_places(network.config), UNET_PREFIX
        elif isinstance(network, AutoencoderKL):
            places, prefix = autoencoder_places(network.config), FIRST_STAGE
        elif isinstance(network, VQAutoencoder):
            places, prefix = vq_places(network.config), FIRST_STAGE
        elif isinstance(network, ClassToken):
            places, prefix = iter([Place("embedding", "embedding")]), CLASS_PREFIX
        elif isinstance(network, LDMBertModel):
            places, prefix = bert_places(network.config), BERT_PREFIX
        elif isinstance(network, ProjectedTextModel):
            places = open_clip_places(network.config.text, "text_model.")
            prefix = OPEN_CLIP_PREFIXES[2 if "text_encoder" in networks else 1]
        elif isinstance(network, TinyAutoencoder):
            raise UserError(
                "a tiny autoencoder has no place in a single file; keep the model as a folder, as diffusers has them"
            )
        else:
            assert isinstance(network, CLIPTextModel)
            xl = "text_encoder_2" in networks
            other = network.config.activation == "gelu" if open_clip is None else open_clip
            if other and not xl:
                places, prefix = open_clip_places(network.config), OPEN_CLIP_PREFIXES[0]
            else:
                places, prefix = clip_places(network.config), CLIP_PREFIXES[xl]
        layouts[part] = layout(network.state_dict(), places, prefix)
    return layouts


def behind_keys(networks: Mapping[str, nn.Module]) -> set[str]:
    """What an OpenCLIP tower has in a single file and no model here: the layer that Stable Diffusion 2 leaves out,
    and what only CLIP's own training asked for."""
    if "text_encoder_2" in networks:
        return {f"{prefix}logit_scale" for prefix in OPEN_CLIP_PREFIXES[1:]}
    if "text_encoder" not in networks:
        return set()
    text, prefix = networks["text_encoder"], OPEN_CLIP_PREFIXES[0]
    assert isinstance(text, CLIPTextModel)
    layers = text.config.layers
    names = [name for name in text.state_dict() if name.startswith(f"layers.{layers - 1}.")]
    last = layout(names, open_clip_places(text.config), prefix)
    block = f"{prefix}transformer.resblocks."
    behind = {key.replace(f"{block}{layers - 1}.", f"{block}{layers}.", 1) for key in last}
    return {*behind, f"{prefix}text_projection", f"{prefix}logit_scale"}


class SingleFile(LaidOut):
    """The tensors of an open file as the parameters of networks of given shapes; data is read when asked for.

    `weights`: the UNet's moving average or the raw ones; None for the average if there is one. `chosen`: which
    it is; `left_out`: how many tensors of the other kind there are. `kept`: tensors of OpenCLIP's tower behind the
    layer that is read, by key. `has_depth_model`: is there one, which is not read? UserError, naming file and key,
    for all that is missing, unknown or does not fit.
    """

    def __init__(self, file: TensorFile, networks: Mapping[str, nn.Module], weights: Weights | None = None) -> None:
        self._path = file.path
        keys = file.entries.keys()
        layouts = layouts_of(networks, open_clip=any(key.startswith(OPEN_CLIP_PREFIXES[0]) for key in keys))
        if "text_encoder" in layouts and not any(".transformer.text_model." in key for key in keys):
            layouts["text_encoder"] = {  # transformers 5 leaves that segment out
                key.replace(".transformer.text_model.", ".transformer."): stored
                for key, stored in layouts["text_encoder"].items()
            }
        raw, averages = layouts["unet"], {ema_key(key): stored for key, stored in layouts["unet"].items()}
        self.chosen = self._choice(weights, averages.keys() & keys, raw.keys() & keys)
        self.left_out = len((raw if self.chosen == "ema" else averages).keys() & keys)
        layouts["unet"] = averages if self.chosen == "ema" else raw
        self.has_depth_model = any(key.startswith(DEPTH_MODEL) for key in keys)
        self.kept = sorted(behind_keys(networks) & keys)
        copies = _copies(networks, layouts)
        beside = {*raw, *averages, *self.kept, *DROPPED, *copies}
        super().__init__(file, networks, layouts, beside, DROPPED_BELOW)
        self._check_copies(copies)

    def _choice(self, weights: Weights | None, averages: set[str], raw: set[str]) -> Weights:
        if weights not in (None, "ema", "raw"):
            raise UserError(f"weights {short(weights)} is unknown; choose ema or raw")
        found: dict[Weights, set[str]] = {"ema": averages, "raw": raw}
        if weights is not None and not found[weights]:
            what, other = ("moving averages", "raw") if weights == "ema" else ("raw weights", "ema")
            raise UserError(f"{self._path} has no {what} of the UNet; leave out --weights or choose {other}")
        return weights or ("ema" if averages else "raw")

    def _check_copies(self, copies: Mapping[str, str]) -> None:
        """UserError where a tensor that is there twice is not the same both times: one of them would be lost."""
        keys = self.file.entries.keys()
        for key, original in copies.items():
            if {key, original} <= keys and not torch.equal(self.file.read(key), self.file.read(original)):
                raise UserError(
                    f"{self._path}: {key} is not {original}, of which it is a copy in such files; get it anew"
                )

    def check_schedule(self, schedule: Schedule, inside: str = "") -> None:
        """UserError where the file has a table of alphas, or of a part `inside` it, that is not that of `schedule`."""
        entry = self.file.entries.get(f"{inside}alphas_cumprod")
        if entry is None or entry.dtype not in FLOATS:
            return
        table = self.finite(entry.key).double().flatten()
        ours = schedule.alphas_cumprod.double()
        if table.shape != ours.shape or bool(((table - ours).abs() > SCHEDULE_TOLERANCE).any()):
            end = f"{table[-1]:.5f}" if len(table) else "nothing"
            raise UserError(
                f"{self._path} was trained with another noise schedule than its settings say: its {entry.key} ends "
                f"at {end} after {len(table)} steps, not at {ours[-1]:.5f} after {len(ours)}; "
                "convert it with the folder of its settings (convert --config, in Python config=)"
            )


def _copies(networks: Mapping[str, nn.Module], layouts: Mapping[str, Mapping[str, Stored]]) -> dict[str, str]:
    """Key -> that of which it is a copy: where a model is told a picture through its own first stage, its trainer wrote
    that twice. One is enough to read all, and to write."""
    unet = networks["unet"]
    if not isinstance(unet, UNet2D) or unet.config.in_channels == unet.config.out_channels or "vqvae" not in layouts:
        return {}
    return {COPIES + key.removeprefix(FIRST_STAGE): key for key in layouts["vqvae"]}
