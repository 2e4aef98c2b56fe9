"""How much memory painting will take, told beforehand: the networks run without numbers, and what they hold is
counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from latentbrush.conditioning import LabelConditioner
from latentbrush.latents import Tiling
from latentbrush.model import LatentDiffusion
from latentbrush.nn import Condition
from latentbrush.nn.first_stage import Tileable
from latentbrush.request import Tiles
from latentbrush.viewing.live_bytes import counted
from latentbrush.viewing.tiled_memory import tiled_decode_peak, tiled_encode_peak

__all__ = ["PaintingMemory", "painting_memory"]


@dataclass(frozen=True)
class PaintingMemory:
    """Bytes that painting takes. `weights`: of each part; `activations`: the most that is alive at once within one
    call of the UNet, of the decoder, and of the encoder, which reads one given picture.

    Libraries come on top, and what allocators keep back for later.
    """

    weights: Mapping[str, int]
    activations: Mapping[str, int]

    @property
    def peak(self) -> int:
        """All weights, and the call that needs most."""
        return sum(self.weights.values()) + max(self.activations.values())

    @property
    def peak_low_memory(self) -> int:
        """On the device where only the part at work is there (low memory)."""
        calls = {"unet": ("unet",), "vae": ("encoder", "decoder"), "text": ()}
        return max(
            size + max((self.activations.get(call, 0) for call in calls[part]), default=0)
            for part, size in self.weights.items()
        )


def painting_memory(
    model: LatentDiffusion, width: int, height: int, batch: int = 1, *, tiles: Tiles = "auto"
) -> PaintingMemory:
    """What painting `batch` pictures of `width` x `height` pixels at once takes, in the model's type.

    `model`: on the meta device, such as `formats.outline_model` gives; nothing is computed. With guidance, if that
    is the model's default, every picture counts twice in the UNet, in editing three times. UserError for a size
    that does not fit.
    """
    shape, autoencoder = model.latent_shape(width, height), model.autoencoder
    guided = model.defaults.guidance != 1
    rows = batch * (3 if model.task == "editing" else 2 if guided else 1)

    def unet() -> Tensor:
        x, t = _empty(model, rows, *shape), torch.empty(rows, device="meta")
        out: Tensor = model.unet(x, t, _condition(model, rows, shape))
        return out

    tiling, pixels = Tiling(tiles), width * height
    activations = {"unet": _peak(unet)}
    if isinstance(autoencoder, Tileable) and tiling.cuts_decoding(pixels):
        activations["decoder"] = tiled_decode_peak(autoencoder, (batch, *shape), model.dtype)
    else:
        activations["decoder"] = _peak(lambda: tiling.decode(autoencoder, _empty(model, batch, *shape)))
    if model.task == "upscaling":  # which reads its small picture as it is
        pass
    elif isinstance(autoencoder, Tileable) and tiling.cuts_encoding(pixels):
        activations["encoder"] = tiled_encode_peak(autoencoder, (1, 3, height, width), model.dtype)
    else:
        activations["encoder"] = _peak(lambda: tiling.encode(autoencoder, _empty(model, 1, 3, height, width)))
    weights = {"unet": model.unet, "vae": autoencoder, "text": model.text}
    return PaintingMemory({name: _size(part) for name, part in weights.items()}, activations)


def _peak(call: Callable[[], object]) -> int:
    with counted() as live:
        call()
    return live.peak


def _size(part: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in part.parameters())


def _empty(model: LatentDiffusion, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=model.dtype, device="meta")


def _condition(model: LatentDiffusion, rows: int, shape: tuple[int, int, int]) -> Condition:
    """One of the shapes that the model's prompts, or labels, and pictures have."""
    channels = model.unet.config.in_channels - shape[0]
    beside = _empty(model, rows, channels, *shape[1:]) if channels else None
    if isinstance(model.text, LabelConditioner):
        wide = model.text.width
        labelled = model.text.classes is not None and not wide
        labels = torch.empty(rows, dtype=torch.long, device="meta") if labelled else None
        return Condition(_empty(model, rows, 1 if wide else 0, wide), classes=labels, channels=beside)
    pooled = model.text.pooled_width
    return Condition(
        _empty(model, rows, model.text.tokenizer.max_length, model.text.width),
        pooled=_empty(model, rows, pooled) if model.micro_count and pooled else None,
        micro=_empty(model, rows, model.micro_count) if model.micro_count else None,
        channels=beside,
        classes=None if model.augmentation is None else torch.empty(rows, dtype=torch.int64, device="meta"),
    )
