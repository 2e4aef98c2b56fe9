"""What a request's pictures become: a guide, a mask, channels for the network; and the x that painting starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from latentbrush.conditioning import Masked, SmallPicture, hidden, keep_known, latent_mask
from latentbrush.data.pictures import as_rgb
from latentbrush.diffusion import OnStep, Plan
from latentbrush.errors import UserError
from latentbrush.formats import cover
from latentbrush.latents import Tiling, encoded
from latentbrush.model import LatentDiffusion
from latentbrush.nn import Posterior
from latentbrush.request import MAX_SIDE, ImageRequest

__all__ = ["Begun", "Given", "Images", "Pictures", "begin", "encode_pictures", "pictures_of", "size_of", "to_pixels"]

Images = Mapping[str, Image.Image]
"""The pictures that a request refers to by SHA-256: of any size and mode. `formats.load_photo` makes the pairs."""

START, CONTROL = "start image", "control's picture"
"""As errors name them."""
HALF = 128
"""Of 255: a mask's grey from which a pixel is painted anew."""


@dataclass(frozen=True)
class Pictures:
    """The start's picture (RGB) and mask (L, 0 or 255) and the control's picture (RGB), covering the canvas, an
    upscaler's small picture as it is; None for what is not needed."""

    image: Image.Image | None = None
    mask: Image.Image | None = None
    control: Image.Image | None = None

    def pasted(self, painted: Image.Image) -> Image.Image:
        """The painted picture under the mask, the given one elsewhere, byte for byte."""
        if self.image is None or self.mask is None:
            return painted
        return Image.composite(painted, self.image, self.mask)


@dataclass(frozen=True)
class Given:
    """The pictures as painting reads them, for one picture each.

    `guide`: what is started from, or with `mask` (1, 1, h, w) put back where it is 0; `masked`: what a network
    trained for inpainting is told; `small`: what an upscaler reads, `channels` (1, c, h, w): one trained for another
    task; `strength`: 1 to start from noise alone.
    """

    guide: Posterior | None = None
    mask: Tensor | None = None
    masked: Masked | None = None
    small: SmallPicture | None = None
    channels: Tensor | None = None
    strength: float = 1.0


@dataclass(frozen=True)
class Begun:
    """The first x (B, c, h, w), further channels for the network, the `on_step` to paint with, and the `labels` (B,)
    that an upscaler takes beside the words."""

    x: Tensor
    channels: Tensor | None
    on_step: OnStep
    labels: Tensor | None = None


class Draw(Protocol):
    """The next unit Gaussian noise of each picture (B, c, h, w), or with so many channels."""

    def __call__(self, channels: int | None = None) -> Tensor: ...


def size_of(model: LatentDiffusion, request: ImageRequest, images: Images) -> tuple[int, int]:
    """(width, height) to paint at: as the request says, else as the model does; an upscaler, f times its picture's."""
    canvas, defaults, name = request.canvas, model.defaults, request.control.image
    width, height = defaults.width, defaults.height
    if model.task == "upscaling" and name is not None and name in images:
        small = images[name]
        width, height = small.width * model.factor, small.height * model.factor
        if max(width, height) > MAX_SIDE:
            raise UserError(
                f"the picture is {small.width}x{small.height} pixels and would become {width}x{height}; at most "
                f"{MAX_SIDE} a side are painted: give one of at most {MAX_SIDE // model.factor} a side"
            )
        if (canvas.width or width, canvas.height or height) != (width, height):
            raise UserError(
                f"the size is {canvas.width or width}x{canvas.height or height}, but a picture of "
                f"{small.width}x{small.height} pixels becomes {width}x{height} here; leave out the size"
            )
    return canvas.width or width, canvas.height or height


def pictures_of(model: LatentDiffusion, request: ImageRequest, images: Images) -> Pictures:
    """The pictures of a resolved request. UserError where they are not among `images`, or do not fit together."""
    pictures, name, canvas = _started_from(request, images), request.control.image, request.canvas
    if name is None:
        return pictures
    assert canvas.width is not None
    assert canvas.height is not None
    image = _named(images, name, CONTROL)
    if model.task == "upscaling":
        return replace(pictures, control=_covering(image, f"{CONTROL} {name}", *image.size))
    return replace(pictures, control=_covering(image, f"{CONTROL} {name}", canvas.width, canvas.height))


def _started_from(request: ImageRequest, images: Images) -> Pictures:
    start, canvas = request.start, request.canvas
    if start.image is None or (start.strength == 1 and start.mask is None):
        return Pictures()
    assert canvas.width is not None
    assert canvas.height is not None
    image = _named(images, start.image, START)
    if start.mask is None:
        return Pictures(_covering(image, f"{START} {start.image}", canvas.width, canvas.height))
    mask = _named(images, start.mask, "mask")
    if mask.size != image.size:
        (w, h), (wide, high) = mask.size, image.size
        raise UserError(f"the mask is {w}x{h} pixels, the picture {wide}x{high}; give a mask as large as the picture")
    # What is transparent in a mask was not marked, so it stays: on black.
    cut = _covering(mask, f"mask {start.mask}", canvas.width, canvas.height, ground="black").convert("L")
    black_white = cut.point([0] * HALF + [255] * (256 - HALF))
    if black_white.getextrema() == (0, 0):
        raise UserError("the mask is black throughout, so nothing would be painted; make white what is to change")
    return Pictures(_covering(image, f"{START} {start.image}", canvas.width, canvas.height), black_white)


def _named(images: Images, name: str, what: str) -> Image.Image:
    if name not in images:
        raise UserError(
            f"the {what} {name} is not among the {len(images)} pictures passed beside the request; "
            "pass it in `images`, under that name"
        )
    return images[name]


def _covering(image: Image.Image, what: str, width: int, height: int, ground: str = "white") -> Image.Image:
    """`what`: the picture, as an error names it."""
    try:
        return cover(as_rgb(image, ground), width, height)
    except UserError as error:
        raise UserError(f"the {what}: {error}") from None


@torch.inference_mode()
def encode_pictures(
    model: LatentDiffusion, request: ImageRequest, pictures: Pictures, tiling: Tiling | None = None
) -> Given:
    """In latents, as the model's task wants them. `tiling`: None for a new one, as the request says."""
    tiling = tiling or Tiling(request.canvas.tiles)
    if model.task == "upscaling" and pictures.control is not None:
        return _small(model, request, to_pixels(pictures.control)[None].to(model.device))
    return replace(_encoded_start(model, request, pictures, tiling), channels=_control(model, pictures, tiling))


def _small(model: LatentDiffusion, request: ImageRequest, pixels: Tensor) -> Given:
    """What an upscaler reads of its small picture (1, 3, h, w): one after LDM, section 4.4, as it is."""
    if model.augmentation is None:
        return Given(channels=pixels)
    assert request.control.noise_level is not None
    return Given(small=SmallPicture(pixels, request.control.noise_level, model.augmentation.schedule))


def _encoded_start(model: LatentDiffusion, request: ImageRequest, pictures: Pictures, tiling: Tiling) -> Given:
    if pictures.image is None:
        return Given()
    pixels, strength = to_pixels(pictures.image)[None], request.start.strength
    if pictures.mask is None:
        return Given(encoded(model, pixels, tiling), strength=strength)
    mask = torch.from_numpy(np.asarray(pictures.mask) // 255).float()[None, None]
    cells = latent_mask(mask, model.factor).to(model.device)
    if model.task == "inpainting":
        guide = encoded(model, pixels, tiling) if strength < 1 else None
        ldm = not model.reads_words
        masked = Masked(cells, encoded(model, hidden(pixels, mask, ldm=ldm), tiling), ldm)
        return Given(guide, masked=masked, strength=strength)
    return Given(encoded(model, pixels, tiling), cells, strength=strength)


def _control(model: LatentDiffusion, pictures: Pictures, tiling: Tiling) -> Tensor | None:
    """What a network reads of the control's picture."""
    if pictures.control is None:
        return None
    if model.task == "editing":
        # The network was trained on latents as the autoencoder has them, without the scale of diffusion.
        pixels = to_pixels(pictures.control)[None]
        return encoded(model, pixels, tiling).mean / model.autoencoder.config.scaling_factor
    depth = torch.from_numpy(np.asarray(pictures.control.convert("L"), dtype=np.float32).copy())[None, None]
    size = (depth.shape[-2] // model.factor, depth.shape[-1] // model.factor)
    cells = F.interpolate(depth, size=size, mode="bicubic", align_corners=False)
    low, high = cells.aminmax()
    if low == high:
        raise UserError("the depth map is of one grey throughout; give one in which near parts are brighter")
    return (2.0 * (cells - low) / (high - low) - 1.0).to(model.device)


def begin(given: Given, plan: Plan, noise: Draw, on_step: OnStep) -> Begun:
    """Draws in the order of diffusers' pipelines: the small picture's, the guide's, the start's, the masked one's.

    Where the first stage leaves nothing to chance, nothing is drawn of the guide and of the masked picture.
    """
    if given.small is not None:
        read = given.small.channels(noise(given.small.pixels.shape[1]))
        return Begun(plan.start(noise()), read, on_step, given.small.labels(len(read)))
    guide = None if given.guide is None else _draw(given.guide, noise)
    first = noise()
    guide = None if guide is None else guide.to(first)
    x = plan.start(first, guide if given.strength < 1 else None)
    if given.masked is not None:
        return Begun(x, given.masked.channels(first if given.masked.visible.certain else noise()), on_step)
    if given.mask is not None and given.guide is not None and guide is not None:
        if not given.guide.certain:
            noise()  # a masked picture's, which diffusers draws for every model
        on_step = keep_known(given.mask, guide, first, on_step)
    channels = None if given.channels is None else given.channels.to(x).expand(len(x), -1, -1, -1)
    return Begun(x, channels, on_step)


def _draw(posterior: Posterior, noise: Draw) -> Tensor:
    if posterior.certain:
        return posterior.mean
    draw = noise()
    return posterior.at(draw.to(posterior.mean))


def to_pixels(image: Image.Image) -> Tensor:
    """An RGB picture -> (3, H, W) float32 in [-1, 1], by the rounding of diffusers' pipelines."""
    values = torch.from_numpy(np.asarray(image).astype(np.float32) / 255.0)
    return 2.0 * values.permute(2, 0, 1) - 1.0
