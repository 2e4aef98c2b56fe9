"""Sheets and animations: where the pictures are, how large, and that every pixel can be seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentbrush.errors import UserError
from latentbrush.model import LatentDiffusion
from latentbrush.viewing import (
    Frame,
    View,
    animation,
    decode_frames,
    durations,
    labelled_sheet,
    save_animation,
    save_sheet,
    strip,
)
from latentbrush.viewing.forward import signed_map
from latentbrush.viewing.sheet import PAPER

RED, BLUE = (255, 0, 0), (0, 0, 255)


def area(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """The box that a colour fills without gaps."""
    found = (np.asarray(sheet) == colour).all(-1)
    y, x = np.nonzero(found)
    box = int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1
    assert found[box[1] : box[3], box[0] : box[2]].all()
    return box


CELLS = {
    (32, 32): (128, 128),
    (48, 32): (144, 96),
    (3, 1): (129, 43),
    (200, 100): (200, 100),
    (512, 512): (256, 256),
    (1024, 512): (256, 128),
    (5000, 3): (256, 1),
}


@pytest.mark.parametrize(("size", "cell"), CELLS.items())
def test_cells_are_legible_and_bounded(size: tuple[int, int], cell: tuple[int, int]) -> None:
    sheet = labelled_sheet(["t = 1"], {"latents": [Image.new("RGB", size, RED)]})
    left, top, right, bottom = area(sheet, RED)
    assert (right - left, bottom - top) == cell
    assert left > 20  # behind the row's name
    assert top > 20  # below the column's label


def test_pixels_are_squares_and_rows_lie_below_each_other() -> None:
    corner = Image.new("RGB", (4, 4), "white")
    corner.putpixel((0, 0), RED)
    slice_ = Image.new("RGB", (2, 2), "white")
    slice_.putpixel((1, 0), BLUE)
    sheet = labelled_sheet(["a", "b"], {"one": [corner, Image.new("RGB", (4, 4))], "two": [slice_, slice_]})
    left, top, right, bottom = area(sheet, RED)
    assert (right - left, bottom - top) == (32, 32)
    blue = np.argwhere((np.asarray(sheet) == BLUE).all(-1))
    assert len(blue) == 2 * 64 * 64
    assert blue[:, 0].min() > top + 128
    assert blue[:, 1].min() == left + 64


def test_a_label_wider_than_its_cells_is_not_cut() -> None:
    narrow = [Image.new("RGB", (8, 128), RED)] * 2
    sheet = np.asarray(labelled_sheet(["finished pictures", "finished pictures"], {"": narrow}))
    header = (sheet[:28] != PAPER).any(-1).any(0)
    inked = np.flatnonzero(header)
    assert inked.min() > 0
    assert inked.max() < sheet.shape[1] - 1
    assert not header[sheet.shape[1] // 2 - 2 : sheet.shape[1] // 2 + 2].any()  # nor do they touch


def views(size: tuple[int, int], count: int) -> list[View]:
    shades = [Image.new("RGB", size, (i * 200 // count, 0, 0)) for i in range(count)]
    return [View(None if i == count - 1 else 1000.0 - i, shade, shade) for i, shade in enumerate(shades)]


@pytest.mark.capability("denoising-strip")
def test_a_strip_has_at_most_ten_columns() -> None:
    few, many = strip(views((32, 32), 3)), strip(views((32, 32), 31))
    assert few.height == many.height
    assert many.width - few.width == 7 * 134
    assert many.width < 1500


@pytest.mark.capability("denoising-animation")
@pytest.mark.parametrize("size", [(32, 32), (8, 512)])
def test_an_animation_s_frames_are_of_one_size_and_saved(size: tuple[int, int], tmp_path: Path) -> None:
    frames = animation(views(size, 4))
    assert len({frame.size for frame in frames}) == 1
    path = tmp_path / "new" / "x.webp"
    save_animation(frames, durations(4), path)
    with Image.open(path) as image:
        assert (image.format, image.n_frames, image.size) == ("WEBP", 4, frames[0].size)  # type: ignore[attr-defined]
        assert image.info["loop"] == 0
    assert [file.name for file in path.parent.iterdir()] == ["x.webp"]


@pytest.mark.capability("denoising-animation")
def test_the_ends_are_shown_longer() -> None:
    first, *between, last = durations(6)
    assert max(between) < first < last
    assert durations(2) == [first, last]


def test_a_sheet_is_a_png(tmp_path: Path) -> None:
    save_sheet(strip(views((8, 8), 2)), tmp_path / "new" / "x.png")
    with Image.open(tmp_path / "new" / "x.png") as image:
        assert (image.format, image.mode) == ("PNG", "RGB")


def test_signs_are_colours() -> None:
    image = np.asarray(signed_map(torch.tensor([[0.0, 9.0], [-9.0, 1.0]]))).astype(int)
    assert image[0, 0].tolist() == [255, 255, 255]
    red, blue, pink = image[0, 1], image[1, 0], image[1, 1]
    assert red[0] > red[2] + 100
    assert blue[2] > blue[0] + 100
    assert red[1] < pink[1] < 255


@pytest.mark.capability("float32-retry")
def test_frames_that_overflow_in_half_precision_are_decoded_in_float32(
    make_model: Callable[..., LatentDiffusion],
) -> None:
    model = make_model()
    with torch.no_grad():
        model.autoencoder.decoder.conv_in.weight.mul_(1e5)
    model.to(dtype=torch.float16)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)).half()
    assert not bool(model.autoencoder.decode(latents).isfinite().all())  # as it was meant
    frames = [Frame(999.0, latents, latents.flip(0)), Frame(None, latents, latents)]
    half = decode_frames(model, frames, 1)
    assert model.dtype == torch.float16
    full = decode_frames(model.to(dtype=torch.float32), frames, 1)
    for view, expected in zip(half, full, strict=True):
        assert np.array_equal(np.asarray(view.latents), np.asarray(expected.latents))
        assert np.array_equal(np.asarray(view.x0), np.asarray(expected.x0))


@pytest.mark.capability("finite-pictures")
def test_a_frame_that_is_not_finite_is_an_error(make_model: Callable[..., LatentDiffusion]) -> None:
    latents = torch.zeros(1, 4, 8, 8)
    spoilt = Frame(500.0, latents, latents * torch.nan)
    with pytest.raises(UserError, match=r"way from noise is not finite at t = 500; choose less guidance"):
        decode_frames(make_model(), [spoilt], 0)
    with pytest.raises(UserError, match="not finite at the end"):
        decode_frames(make_model(), [Frame(None, spoilt.x0, spoilt.x0)], 0)
