"""`ImageRequest`: everything a picture needs, in the words that all rooms share. Imports no torch.

Python, command line, HTTP and web page all build this one object, `latentbrush.generate` serves it, and the
picture carries it, resolved. None means "as the model says"; a resolved request has none left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, model_validator

__all__ = [
    "MAX_SIDE",
    "SAMPLER_CHOICES",
    "SIGMA_CHOICES",
    "TILES_BEYOND",
    "Batch",
    "Canvas",
    "Control",
    "GuidanceRequest",
    "ImageRequest",
    "Micro",
    "ModelRequest",
    "Precision",
    "Sampling",
    "Stage",
    "Start",
    "Text",
    "Tiles",
]

SAMPLER_CHOICES = (
    *("ddim", "euler", "dpmpp_2m", "heun", "euler_ancestral", "ddpm", "plms", "pndm", "lms", "dpm2", "dpm2_ancestral"),
    *("dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_3m", "dpmpp_2s", "dpmpp_3s"),
    *("unipc", "deis", "lcm", "tcd"),
)
SIGMA_CHOICES = ("spaced", "karras", "exponential", "beta", "simple", "sgm_uniform", "ays", "ays_sdxl")
"""The names of `latentbrush.diffusion.SAMPLERS` and its `SIGMA_PATHS`, for whoever asks before torch is there."""


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number; 1 means no guidance, 3 to 8 are usual")
    return value


def _unicode(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:  # bytes of a command line that are no UTF-8 arrive as lone surrogates
        raise ValueError("the text is not valid Unicode; write it in UTF-8") from None
    return value


Text = Annotated[str, AfterValidator(_unicode)]
SHA256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Precision = Literal["float32", "float16", "bfloat16", "float64"]
"""The type of all weights and latents, by torch's name."""
Tiles = Literal["auto", "on", "off", "decode"]
"""Whether the autoencoder works in overlapping tiles, one picture at a time; `decode`: only from latents to pixels."""
TILES_BEYOND = 2048 * 1024
"""Pixels up to which `auto` takes no tiles: twice those that Stable Diffusion XL was trained at."""


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelRequest(_Block):
    """Which model paints: the name of a shipped one, its folder or its file; and in which type it computes.

    `dtype` belongs to the picture, for each type has random draws of its own. None for what the model was
    loaded as; another than that is refused. `prediction`: what the network's output means, instead of what the
    model says; `weights`: which of a single file's. None for what the model says. `fast_decoder`: the folder of a
    tiny autoencoder that decodes instead of the model's own. `vae`: the folder or file of an autoencoder that stands
    in the place of the model's own. `safety_check`: what the model's safety checker flags becomes black.
    """

    name: Text = "emoji"
    dtype: Precision | None = None
    prediction: Literal["epsilon", "v_prediction", "sample"] | None = None
    weights: Literal["ema", "raw"] | None = None
    fast_decoder: Text | None = None
    vae: Text | None = None
    safety_check: bool = False


MAX_SIDE = 16384
"""Pixels."""


class Canvas(_Block):
    """The picture's size in pixels; both sides multiples of the autoencoder's factor.

    `tiles`: auto takes them beyond `TILES_BEYOND` pixels, and from where memory ran out once; a finished picture's
    request says what was done, never auto.
    """

    width: Annotated[StrictInt, Field(ge=1, le=MAX_SIDE)] | None = None
    height: Annotated[StrictInt, Field(ge=1, le=MAX_SIDE)] | None = None
    tiles: Tiles = "auto"


class Batch(_Block):
    """Pictures that are painted together: `size` of them, of which `first` is the first one's index."""

    first: Annotated[StrictInt, Field(ge=0)]
    size: Annotated[StrictInt, Field(ge=1)]


class Sampling(_Block):
    """How the noise becomes a picture. Picture i of `count` starts from seed + i.

    `sampler`: one of `latentbrush.diffusion.SAMPLERS`; `sigmas`: one of its `SIGMA_PATHS`, None for the model's own;
    `batch_size`: so many pictures at once at most.
    """

    sampler: str | None = None
    sigmas: str | None = None
    steps: Annotated[StrictInt, Field(ge=1)] | None = None
    seed: Annotated[StrictInt, Field(ge=0, lt=2**63)] | None = None
    count: Annotated[StrictInt, Field(ge=1, le=100_000)] = 1
    batch_size: Annotated[StrictInt, Field(ge=1, le=100_000)] = 16

    def batches(self) -> Iterator[Batch]:
        """All pictures, in the batches in which they are painted."""
        for first in range(0, self.count, self.batch_size):
            yield Batch(first=first, size=min(self.batch_size, self.count - first))


class GuidanceRequest(_Block):
    """Classifier-free guidance: u + weight * (c - u), u being the negative prompt's prediction.

    `rescale` in [0, 1]: how far the result is given the spread of c (Lin et al. 2024); 0 is none.
    """

    weight: Annotated[float, AfterValidator(_finite)] | None = None
    negative: Text = ""
    rescale: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0


class Control(_Block):
    """A picture that the network itself reads at every step, if it was trained to: for editing the picture to
    edit, for depth-to-image the depth map, near parts bright, for upscaling the small picture.

    `image`: the SHA-256 of its file; the picture itself is passed beside the request. `weight`: of the guidance by
    it, in editing only, beside that by the words; 1 to 2 is usual, more stays closer to the picture.
    `noise_level`: in upscaling only, how much noise the small picture is given, from 0 to the model's greatest; more
    makes more up. None for 20 there.
    """

    image: SHA256 | None = None
    weight: Annotated[float, AfterValidator(_finite)] = 1.5
    noise_level: Annotated[StrictInt, Field(ge=0)] | None = None


class Start(_Block):
    """From where a picture is painted: noise, or a guide picture under noise (SDEdit).

    `image`: the SHA-256 of the guide's file, 64 hexadecimal digits; the picture itself is passed beside the
    request. None for none, and then nothing else here is read.
    `strength` in [0, 1]: the share of the steps that are run. 1 ignores the guide, 0 returns it; 0.3 to 0.6
    keep its composition.
    `mask`: likewise of a picture as large as the guide, white where it is painted anew; what is black stays. None
    to paint all of it. `paste`: pixels outside the mask are the guide's in the end, byte for byte.
    """

    image: SHA256 | None = None
    strength: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.8
    mask: SHA256 | None = None
    paste: bool = True

    @model_validator(mode="after")
    def _mask_of_something(self) -> Start:
        if self.mask is not None and self.image is None:
            raise ValueError("a mask is there, but no picture that it covers; name the picture as image")
        return self


Size = tuple[Annotated[StrictInt, Field(ge=1, le=MAX_SIDE)], Annotated[StrictInt, Field(ge=1, le=MAX_SIDE)]]
Offset = Annotated[StrictInt, Field(ge=0, le=MAX_SIDE)]
Score = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]


class Micro(_Block):
    """What Stable Diffusion XL is told beside the words; models before it read nothing here.

    Sizes are (width, height) in pixels, None for the canvas's: `original` of a training picture before it was
    scaled (small ones make blurred pictures), `target` of what it was scaled to. `crop`: what was cut off at the
    left and above; (0, 0) centres. `aesthetic`, `negative_aesthetic`: scores from 0 to 10 that the refiner is told
    with the prompt and with the negative one.
    """

    original: Size | None = None
    crop: tuple[Offset, Offset] = (0, 0)
    target: Size | None = None
    aesthetic: Score = 6.0
    negative_aesthetic: Score = 2.5


class Stage(_Block):
    """A second model that takes over where `handover`, a share between 0 and 1, of the schedule's times is done: such
    as Stable Diffusion XL's refiner. `model`: as in `ModelRequest.name`.
    """

    model: Text
    handover: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.8


class ImageRequest(_Block):
    """A request for `sampling.count` pictures of `prompt`. pydantic's ValidationError for what cannot be.

    `label`: of a class, counted from 0, for a model that knows classes, None for any other. Without words, the prompt
    is empty.

    >>> ImageRequest(prompt="a red heart", sampling=Sampling(steps=20, seed=1)).sampling.count
    1
    """

    version: Literal[1] = 1
    prompt: Text
    label: Annotated[StrictInt, Field(ge=0)] | None = None
    model: ModelRequest = ModelRequest()
    canvas: Canvas = Canvas()
    sampling: Sampling = Sampling()
    guidance: GuidanceRequest = GuidanceRequest()
    start: Start = Start()
    control: Control = Control()
    micro: Micro = Micro()
    stages: Annotated[tuple[Stage, ...], Field(max_length=1)] = ()
