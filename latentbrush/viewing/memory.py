"""How much memory painting will take, told beforehand: the networks run without numbers, and what they hold is
counted."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from latentbrush.conditioning import LabelConditioner
from latentbrush.latents import Tiling
from latentbrush.model import LatentDiffusion
from latentbrush.nn import Condition
from latentbrush.request import Tiles

__all__ = ["LiveBytes", "PaintingMemory", "painting_memory"]


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


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types there
    """Counts the bytes of tensors made within it, views once with what they show: alive `now`, and `peak`, the most
    that were at once.

    While it works, a convolution holds its input and its output once more, in the layout of its kernel (oneDNN).
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {id(tensor.untyped_storage()) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if id(storage) not in self._known | given:  # what was given and is not known was there before
                    self._take(storage)
        if function is torch.ops.aten.convolution.default:
            self.peak = max(self.peak, self.now + args[0].nbytes + out.nbytes)
        return out

    def _take(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class _FusedAttention(TorchFunctionMode):
    """Attention as the kernels of CPUs and GPUs compute it: no table of all scores is ever held. Without numbers
    torch chooses the kernel that holds one."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is nn.functional.scaled_dot_product_attention:
            return torch.empty_like(args[0])
        return function(*args, **(kwargs or {}))


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

    calls: dict[str, Callable[[], object]] = {
        "unet": unet,
        "decoder": lambda: Tiling(tiles).decode(autoencoder, _empty(model, batch, *shape)),
    }
    if model.task != "upscaling":  # which reads its small picture as it is
        calls["encoder"] = lambda: Tiling(tiles).encode(autoencoder, _empty(model, 1, 3, height, width))
    weights = {"unet": model.unet, "vae": autoencoder, "text": model.text}
    return PaintingMemory(
        weights={name: _size(part) for name, part in weights.items()},
        activations={name: _peak(call) for name, call in calls.items()},
    )


def _peak(call: Callable[[], object]) -> int:
    with _counted() as live:
        call()
    return live.peak


@contextmanager
def _counted() -> Iterator[LiveBytes]:
    with torch.no_grad(), _FusedAttention(), LiveBytes() as live:
        yield live


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
