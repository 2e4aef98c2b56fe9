"""Any photograph comes in as upright RGB, and what is none is refused in one line that helps."""

import hashlib
import struct
import zlib

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, TiffImagePlugin

from latentbrush.data.pictures import MAX_PIXELS, as_rgb
from latentbrush.errors import UserError
from latentbrush.formats import cover, load_photo

pytestmark = pytest.mark.capability("photographs")

ORIENTATION = 0x0112


def gradient(width=24, height=16):
    """No two corners alike."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 255 // (width - 1), y * 255 // (height - 1), x * 0 + 40], -1).astype(np.uint8))


def png_header(width, height):
    """A PNG that states a size and has no pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_the_reference_is_the_files_hash_and_plain_pixels_stay(tmp_path):
    gradient().save(tmp_path / "plain.png")
    photo = load_photo(tmp_path / "plain.png")
    assert photo.sha256 == hashlib.sha256((tmp_path / "plain.png").read_bytes()).hexdigest()
    assert photo.image.mode == "RGB"
    assert photo.image.tobytes() == gradient().tobytes()


def test_exif_turns_the_photograph_upright(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned by 90 degrees clockwise
    gradient().save(tmp_path / "turned.png", exif=exif)
    image = load_photo(tmp_path / "turned.png").image
    assert image.size == (16, 24)
    assert image.tobytes() == gradient().transpose(Image.Transpose.ROTATE_270).tobytes()
    assert as_rgb(image).tobytes() == image.tobytes()  # not turned once more


def test_a_palettes_transparency_lies_on_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putdata([0, 1])
    image.save(tmp_path / "palette.png", transparency=bytes([255, 0]))
    image = load_photo(tmp_path / "palette.png").image
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(200, 0, 0), (255, 255, 255)]
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert as_rgb(half).getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_16_bits_are_scaled_not_clipped(kind, tmp_path):
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{kind}")
    image = load_photo(tmp_path / f"deep.{kind}").image
    assert [image.getpixel((x, 0)) for x in range(4)] == [(v, v, v) for v in (0, 1, 128, 255)]


@pytest.mark.parametrize(
    ("mode", "kind"), [("CMYK", "jpg"), ("CMYK", "tif"), ("L", "jpg"), ("1", "png"), ("LA", "png")]
)
def test_other_colour_modes(mode, kind, tmp_path):
    Image.new("RGB", (8, 8), "white").convert(mode).save(tmp_path / f"white.{kind}")
    image = load_photo(tmp_path / f"white.{kind}").image
    assert (image.mode, image.getpixel((3, 3))) == ("RGB", (255, 255, 255))


def test_pixels_of_unknown_range_are_refused(tmp_path):
    Image.new("F", (2, 2), 0.5).save(tmp_path / "float.tif")
    Image.new("I", (2, 2), 1_000_000).save(tmp_path / "wide.tif")
    for name in ("float", "wide"):
        with pytest.raises(UserError, match=rf"{name}\.tif: its pixels .*8 or 16 bits"):
            load_photo(tmp_path / f"{name}.tif")


def test_a_jpeg_with_further_pictures_behind_it_is_one_photograph(tmp_path):
    gradient().save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[gradient(8, 8)])
    assert load_photo(tmp_path / "phone.jpg").image.size == (24, 16)


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tif"])
def test_animations_and_pages_are_refused(kind, tmp_path):
    path = tmp_path / f"two.{kind}"
    gradient().save(path, save_all=True, append_images=[gradient().rotate(180)])
    with pytest.raises(UserError, match=rf"two\.{kind}: it holds several pictures.*one is needed; save the one"):
        load_photo(path)


@pytest.mark.parametrize(("width", "height"), [(20_000, 5_001), (60_000, 60_000)])
def test_too_many_pixels_are_refused_before_they_are_decoded(width, height, tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_header(width, height))
    assert width * height > MAX_PIXELS
    with pytest.raises(UserError, match=r"bomb\.png: .* pixels are too many, at most 100 million are read; make"):
        load_photo(tmp_path / "bomb.png")


def test_just_as_many_pixels_as_are_allowed_are_tried(tmp_path, recwarn):
    (tmp_path / "large.png").write_bytes(png_header(20_000, 5_000))
    with pytest.raises(UserError, match=r"large\.png cannot be read"):  # for it has none
        load_photo(tmp_path / "large.png")
    assert not recwarn.list


def test_what_is_no_whole_picture(tmp_path):
    gradient(300, 200).save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "drawing.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for name, said in {
        "half.jpg": r"cannot be read \(.*truncated.*\); save it anew as PNG or JPEG",
        "text.png": r"cannot be read \(its format is none of those known here\)",
        "empty.png": "cannot be read",
        "drawing.eps": "its format is none of those known here",  # Ghostscript would run it
        "absent.png": "does not exist; give a picture file",
        "": "is a folder; give a picture file",
    }.items():
        with pytest.raises(UserError, match=said) as error:
            load_photo(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
        assert "\n" not in str(error.value)


def test_covering_cuts_off_evenly_and_leaves_a_fitting_picture_alone():
    assert cover(gradient(), 24, 16).tobytes() == gradient().tobytes()
    stripes = Image.new("RGB", (30, 10), "red")
    stripes.paste("blue", (10, 0, 20, 10))
    assert set(cover(stripes, 10, 10).getcolors()) == {(100, (0, 0, 255))}
    assert cover(stripes.rotate(90, expand=True), 10, 10).getcolors() == [(100, (0, 0, 255))]
    assert cover(Image.new("RGB", (1, 1), "green"), 32, 64).getcolors() == [(32 * 64, (0, 128, 0))]
    assert cover(gradient(2000, 2), 32, 32).size == (32, 32)


@pytest.mark.parametrize("kind", ["tif", "gif"])
def test_many_pages_are_refused_at_the_second(kind, tmp_path, monkeypatch):
    """To count 200,000 takes half a minute."""
    pages = [Image.new("L", (1, 1), i) for i in range(9)]
    pages[0].save(tmp_path / f"many.{kind}", save_all=True, append_images=pages[1:])
    for reader in (TiffImagePlugin.TiffImageFile, GifImagePlugin.GifImageFile):
        monkeypatch.setattr(reader, "n_frames", property(lambda self: pytest.fail("all are counted")))
    with pytest.raises(UserError, match="it holds several pictures"):
        load_photo(tmp_path / f"many.{kind}")


def test_a_file_without_end_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "sparse.png").open("wb") as file:
        file.write(png_header(8, 8))
        file.truncate(2 * 10**11)
    with pytest.raises(UserError, match=r"sparse\.png has 200000000000 bytes, at most 1000000000 are read"):
        load_photo(tmp_path / "sparse.png")
