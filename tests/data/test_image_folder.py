"""Folders of images with metadata.jsonl."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from latentbrush.data import ImageFolder
from latentbrush.errors import UserError

pytestmark = pytest.mark.capability("image-folder")


def _write(directory: Path, pictures: dict[str, Image.Image], **fields: list[Any]) -> Path:
    lines = []
    for index, (name, picture) in enumerate(pictures.items()):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(directory / name)
        lines.append(json.dumps({"file_name": name, **{key: value[index] for key, value in fields.items()}}))
    (directory / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return directory


def _plain(colour: tuple[int, ...] | str | int, size: tuple[int, int] = (8, 8), mode: str = "RGBA") -> Image.Image:
    return Image.new(mode, size, colour)


def test_records_captions_and_splits(tmp_path: Path) -> None:
    pictures = {"a.png": _plain("red"), "sub/b.png": _plain("lime"), "c.png": _plain("blue")}
    folder = ImageFolder(
        _write(tmp_path, pictures, text=["a", "나", "c"], split=["train", "test", "train"], size=[1, 2, 3])
    )
    assert len(folder) == 3
    assert folder.captions == ["a", "나", "c"]
    assert folder.records[1] == {"file_name": "sub/b.png", "text": "나", "split": "test", "size": 2}
    part = folder.select("test")
    assert [record["file_name"] for record in part.records] == ["sub/b.png"]
    assert part.load(8)[0, :, 0, 0].tolist() == [0, 255, 0]
    assert len(folder.select("train")) == 2
    assert len(folder) == 3
    with pytest.raises(UserError, match="no split 'dev': choose one of test, train"):
        folder.select("dev")


def test_without_splits_all_is_training_and_captions_are_asked_for(tmp_path: Path) -> None:
    folder = ImageFolder(_write(tmp_path, {"a.png": _plain("red")}))
    assert folder.select("train").records == folder.records
    with pytest.raises(UserError, match=r"a\.png has no caption: give it a field 'text'"):
        _ = folder.captions


def test_load_composites_on_the_background(tmp_path: Path) -> None:
    half_red = _plain((255, 0, 0, 128))
    folder = ImageFolder(_write(tmp_path, {"a.png": half_red, "b.png": _plain((9, 9, 9, 0))}))
    pixels = folder.load(8)
    assert (pixels.shape, pixels.dtype) == ((2, 3, 8, 8), torch.uint8)
    assert pixels[0, :, 3, 3].tolist() == [255, 127, 127]
    assert (pixels[1] == 255).all()
    assert (folder.load(8, "black")[0, :, 3, 3]).tolist() == [128, 0, 0]
    assert (folder.load(8, (10, 20, 30))[1] == torch.tensor([10, 20, 30]).view(3, 1, 1)).all()


@pytest.mark.parametrize("size", [2, 3])
def test_transparent_pixels_lend_no_colour(tmp_path: Path, size: int) -> None:
    """Red beside transparent green: reduced, by blocks or by Lanczos, no green may show."""
    pixels = np.zeros((8, 8, 4), dtype=np.uint8)
    pixels[:, :3] = (255, 0, 0, 255)
    pixels[:, 3:] = (0, 255, 0, 0)
    folder = ImageFolder(_write(tmp_path, {"a.png": Image.fromarray(pixels)}))
    on_black = folder.load(size, "black")[0]
    assert (on_black[1:] == 0).all()
    assert on_black[0].max() > 150


def test_whole_number_reduction_is_the_mean_of_blocks(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    folder = ImageFolder(_write(tmp_path, {"a.png": Image.fromarray(pixels)}))
    mean = pixels.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    assert np.abs(folder.load(32)[0].numpy() - mean).max() <= 1
    np.testing.assert_array_equal(folder.load(128)[0].numpy(), pixels.transpose(2, 0, 1))


def test_other_shapes_are_cut_to_the_middle_and_modes_converted(tmp_path: Path) -> None:
    wide = _plain("blue", (20, 8))
    wide.paste((255, 255, 0, 255), (6, 0, 14, 8))
    turned = _plain("white", (8, 16), "RGB")
    turned.paste((0, 0, 0), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees
    _write(tmp_path, {"wide.png": wide, "grey.png": _plain(7, mode="L")})
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=100)
    with (tmp_path / "metadata.jsonl").open("a") as file:
        file.write('\n{"file_name": "turned.jpg"}\n\n')
    folder = ImageFolder(tmp_path)
    pixels = folder.load(8)
    assert (pixels[0] == torch.tensor([255, 255, 0]).view(3, 1, 1)).all()
    assert (pixels[1] == 7).all()
    assert folder.image(2).size == (16, 8)
    # Rotated clockwise, the black top half is the right one.
    assert pixels[2, 0, 4, 0] > 200
    assert pixels[2, 0, 4, 7] < 50


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"metadata\.jsonl, line 3: not JSON"),
        ("[" * 100_000, r"line 3: not JSON"),
        ("[1]", r"line 3: no object with a text 'file_name'"),
        ('{"text": "x"}', r"line 3: no object with a text 'file_name'"),
        ('{"file_name": 3}', r"line 3: no object with a text 'file_name'"),
        ('{"file_name": ""}', r"line 3: .*leads out of the folder"),
        ('{"file_name": "../a.png"}', r"line 3: file_name '\.\./a\.png' leads out of the folder"),
        ('{"file_name": "sub/../../a.png"}', r"line 3: .*leads out of the folder"),
        ('{"file_name": "/etc/passwd"}', r"line 3: .*leads out of the folder"),
        (r'{"file_name": "..\\a.png"}', r"line 3: .*leads out of the folder"),
        (r'{"file_name": "C:\\a.png"}', r"line 3: .*leads out of the folder"),
        ('{"file_name": "none.png"}', r"line 3: the image 'none\.png' is missing"),
        (r'{"file_name": "a\u0000.png"}', r"line 3: the image .* is missing"),
        ('{"file_name": "a.png", "size": ' + "9" * 5000 + "}", r"line 3: not JSON .*digits"),
        (r'{"file_name": "a.png", "text": "\uD83d"}', r"line 3: not JSON .*surrogates"),
        (
            '{"file_name": "' + "x" * 300 + '"}',
            r"line 3: the image 'x+\.\.\. cannot be looked for \(File name too long\)",
        ),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    folder = _write(tmp_path / "folder", {"a.png": _plain("red")})
    (tmp_path / "a.png").write_bytes((folder / "a.png").read_bytes())
    with (folder / "metadata.jsonl").open("a") as file:
        file.write("\n\n" + line)
    with pytest.raises(UserError, match=message) as caught:
        ImageFolder(folder)
    assert "\n" not in str(caught.value)


def test_missing_folder_and_metadata(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none is not a folder"):
        ImageFolder(tmp_path / "none")
    with pytest.raises(UserError, match=r"cannot read .*metadata\.jsonl"):
        ImageFolder(tmp_path)
    (tmp_path / "metadata.jsonl").write_text("\n")
    with pytest.raises(UserError, match="has no records"):
        ImageFolder(tmp_path)
    (tmp_path / "metadata.jsonl").write_bytes(b'{"file_name": "\xff"}')
    with pytest.raises(UserError, match="line 1: not JSON in UTF-8"):
        ImageFolder(tmp_path)


def test_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = _write(tmp_path, {"a.png": _plain("red")}) / "metadata.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(ImageFolder(tmp_path)) == 1


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_damaged_images_are_named(tmp_path: Path, suffix: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    folder = ImageFolder(_write(tmp_path, {f"a.{suffix}": noise, "b.png": noise}))
    path = tmp_path / f"a.{suffix}"
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"no image at all"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"cannot read the image .*a\.{suffix} ") as caught:
            folder.load(8)
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(UserError, match=rf"cannot read the image .*a\.{suffix} "):
        folder.load(8)


@pytest.mark.capability("safe-loading")
def test_no_picture_starts_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands EPS to Ghostscript, whatever the file is called."""
    folder = ImageFolder(_write(tmp_path, {"a.png": _plain("red")}))
    (tmp_path / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    started: list[Any] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **_: started.append(given) or _plain(0).im)
    with pytest.raises(UserError, match=r"cannot read the image .*a\.png \(its format is none of those known here\)"):
        folder.image(0)
    assert not started


def test_grey_of_16_bits_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257], [32896, 65535]], dtype=np.uint16)
    folder = ImageFolder(_write(tmp_path, {"deep.png": Image.fromarray(values)}))
    assert folder.load(2)[0, 1].tolist() == [[0, 1], [128, 255]]


def test_what_is_no_one_picture_of_a_known_range_is_refused(tmp_path: Path) -> None:
    for name, picture, options, said in (
        ("two.gif", _plain("red"), {"save_all": True, "append_images": [_plain("blue")]}, "it holds several pictures"),
        ("float.tif", _plain(0, mode="F"), {}, "floating-point numbers of unknown range"),
    ):
        folder = ImageFolder(_write(tmp_path / name, {name: picture}))
        picture.save(tmp_path / name / name, **options)
        with pytest.raises(UserError, match=rf"the image .*{name}: .*{said}.* or take its line out of metadata"):
            folder.image(0)


@pytest.mark.parametrize("background", ["no colour", (1, 2), (0, 0, 256), (-1, 0, 0)])
def test_impossible_sizes_and_backgrounds(tmp_path: Path, background: Any) -> None:
    folder = ImageFolder(_write(tmp_path, {"a.png": _plain("red")}))
    with pytest.raises(UserError, match="is no colour"):
        folder.load(8, background)
    with pytest.raises(UserError, match="size is 0 pixels, but must be at least 1"):
        folder.load(0)


def test_a_pipe_is_no_metadata(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metadata.jsonl")
    with pytest.raises(UserError, match=r"metadata\.jsonl \(it is no regular file\)"):
        ImageFolder(tmp_path)
