"""When a request's pictures are coded in tiles, what their records say of it, and that they are painted so again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from PIL import Image
from torch import nn

from latentbrush import Canvas, ImageRequest, Sampling, UserError, generate, latents
from latentbrush.latents import Tiling, encoded
from latentbrush.model import LatentDiffusion
from latentbrush.nn import tiled_decode
from latentbrush.pipeline import GeneratedImage, paint, resolve
from latentbrush.request import Start, Tiles

pytestmark = pytest.mark.capability("tiles")

MakeModel = Callable[..., LatentDiffusion]
WIDE = (48, 32)
"""Beyond the 32 x 32 pixels, 8 x 8 cells, of the tiny model's tiles."""
CELLS = [(1, 8, 8), (1, 8, 6), (1, 2, 8), (1, 2, 6)]
PIXELS = [(1, 4 * high, 4 * wide) for _, high, wide in CELLS]
"""Batch and sides of a wide picture's tiles. The last two show nothing that is new; diffusers has them, too."""
GUIDE = "0" * 64


def request(tiles: Tiles, *, count: int = 2, guide: bool = False, **sampling: Any) -> ImageRequest:
    return ImageRequest(
        prompt="a red cat",
        canvas=Canvas(width=WIDE[0], height=WIDE[1], tiles=tiles),
        sampling=Sampling(steps=2, seed=3, count=count, **sampling),
        start=Start(image=GUIDE, strength=0.5) if guide else Start(),
    )


def painted(model: LatentDiffusion, wanted: ImageRequest) -> list[GeneratedImage]:
    return generate(model, wanted, images={GUIDE: Image.linear_gradient("L").resize(WIDE).convert("RGB")})


def pixels(pictures: list[GeneratedImage]) -> list[bytes]:
    return [picture.image.tobytes() for picture in pictures]


def said(pictures: list[GeneratedImage]) -> list[Tiles]:
    return [picture.request.canvas.tiles for picture in pictures]


def sizes(network: nn.Module) -> list[tuple[int, ...]]:
    """Batch, height and width of every call from now on."""
    seen: list[tuple[int, ...]] = []
    network.register_forward_pre_hook(lambda _, args: seen.append((len(args[0]), *args[0].shape[2:])))
    return seen


def fail_beyond(network: nn.Module, most: int, calls: int = 0) -> None:
    """Memory for maps of `most` numbers (B * h * w) a channel, and in the first `calls` calls for all."""
    made = 0

    def check(_: nn.Module, args: Any) -> None:
        nonlocal made
        made += 1
        if len(args[0]) * args[0].shape[2] * args[0].shape[3] > most and made > calls:
            raise torch.OutOfMemoryError("CUDA out of memory")

    network.register_forward_pre_hook(check)


def test_on_and_off_are_meant(make_model: MakeModel) -> None:
    model = make_model()
    seen = sizes(model.autoencoder.decoder)
    whole = painted(model, request("off"))
    assert (seen, said(whole)) == ([(2, 8, 12)], ["off"] * 2)
    seen.clear()
    tiled = painted(model, request("on"))
    assert seen == [*CELLS, *CELLS]
    assert said(tiled) == ["on"] * 2
    assert pixels(tiled) != pixels(whole)
    resolved = resolve(model, request("on", count=1))
    decoded: list[torch.Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latents, "tiled_decode", lambda *args: decoded.append(args[1]) or tiled_decode(*args))
        found = paint(model, ["a red cat"], [3], resolved)
    with torch.inference_mode():
        assert torch.equal(found, tiled_decode(model.autoencoder, decoded[0]))


def test_a_picture_no_larger_than_a_tile_is_as_without(make_model: MakeModel) -> None:
    model = make_model()
    small = {
        tiles: generate(model, request(tiles, count=1).model_copy(update={"canvas": Canvas(tiles=tiles)}))
        for tiles in ("on", "off")
    }
    assert pixels(small["on"]) == pixels(small["off"])


def test_auto_takes_tiles_beyond_its_limit(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    area = WIDE[0] * WIDE[1]
    monkeypatch.setattr(latents, "TILES_BEYOND", area)
    assert said(painted(model, request("auto", guide=True))) == ["off"] * 2
    monkeypatch.setattr(latents, "TILES_BEYOND", area - 1)
    seen = sizes(model.autoencoder.encoder)
    large = painted(model, request("auto", guide=True))
    assert (seen, said(large)) == (PIXELS, ["on"] * 2)
    assert pixels(large) == pixels(painted(model, request("on", guide=True)))


@pytest.mark.parametrize(("part", "expected"), [("decoder", "decode"), ("encoder", "on")])
def test_auto_takes_tiles_where_memory_runs_out(
    make_model: MakeModel, part: Literal["encoder", "decoder"], expected: Tiles
) -> None:
    model = make_model()
    # Enough for one tile at a time, and no more.
    fail_beyond(getattr(model.autoencoder, part), 8 * 8 if part == "decoder" else 32 * 32)
    pictures = painted(model, request("auto", guide=True))
    assert said(pictures) == [expected] * 2
    with pytest.raises(UserError, match=r"not enough memory for . at once of 48x32; .*tiles or low memory"):
        painted(model, request("off", guide=True))
    # Where there is enough, the record paints the same.
    assert pixels(painted(make_model(), pictures[0].request)) == pixels(pictures)


def test_pictures_before_memory_ran_out_say_so(make_model: MakeModel) -> None:
    model = make_model()
    seen = sizes(model.autoencoder.decoder)
    fail_beyond(model.autoencoder.decoder, 8 * 8, calls=1)
    pictures = painted(model, request("auto", count=3, batch_size=1))
    assert said(pictures) == ["off", "on", "on"]
    assert seen == [(1, 8, 12), (1, 8, 12), *CELLS, *CELLS]  # what fails in between fails once


def test_other_errors_are_no_reason_for_tiles(make_model: MakeModel) -> None:
    model = make_model()

    def fail(*_: Any) -> None:
        raise RuntimeError("shapes do not fit")

    model.autoencoder.decoder.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        painted(model, request("auto"))


def test_half_precision_that_overflows_is_repeated_in_tiles(make_model: MakeModel) -> None:
    model = make_model()
    with torch.no_grad():
        model.autoencoder.encoder.conv_in.weight.mul_(6e4)
    model.to(dtype=torch.float16)
    seen = sizes(model.autoencoder.encoder)
    assert encoded(model, torch.ones(1, 3, 32, 48), Tiling("on")).mean.dtype == torch.float32
    assert seen == [*PIXELS, *PIXELS]
