"""PNG files: where they go, what they carry, and that they are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from latentbrush.errors import UserError
from latentbrush.formats import (
    METADATA_KEY,
    PictureRecord,
    check_writable,
    output_paths,
    read_record,
    read_texts,
    save_picture,
)
from latentbrush.request import Canvas, GuidanceRequest, ImageRequest, Sampling


def request(prompt: str = "a red heart", count: int = 1) -> ImageRequest:
    return ImageRequest(
        prompt=prompt,
        canvas=Canvas(width=4, height=2),
        sampling=Sampling(sampler="ddim", steps=3, seed=7, count=count),
        guidance=GuidanceRequest(weight=0.1, negative="파란색"),
    )


def picture(colour: str = "red") -> Image.Image:
    return Image.new("RGB", (4, 2), colour)


def names(paths: list[Path]) -> list[str]:
    return [str(path) for path in paths]


def test_a_png_file_is_that_file_or_numbered() -> None:
    assert names(output_paths(Path("a/x.png"), request())) == ["a/x.png"]
    assert names(output_paths(Path("a/x.PNG"), request(count=2))) == ["a/x-0.PNG", "a/x-1.PNG"]


def test_a_folder_takes_prompt_and_seed(tmp_path: Path) -> None:
    assert names(output_paths(None, request(count=2))) == ["out/a-red-heart-7.png", "out/a-red-heart-8.png"]
    assert names(output_paths(Path("new"), request())) == ["new/a-red-heart-7.png"]
    (tmp_path / "v1.5").mkdir()  # a dot does not make a folder that exists a file
    assert names(output_paths(tmp_path / "v1.5", request())) == [f"{tmp_path}/v1.5/a-red-heart-7.png"]


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("빨간 하트!", "빨간-하트-7.png"),
        ("../../etc/passwd", "etc-passwd-7.png"),
        ("", "picture-7.png"),
        ("❤ \n\t/", "picture-7.png"),
        ("a" * 100, "a" * 40 + "-7.png"),
        ("a" * 39 + " b", "a" * 39 + "-7.png"),
    ],
)
def test_a_prompt_becomes_a_safe_name(prompt: str, name: str) -> None:
    assert output_paths(Path("new"), request(prompt)) == [Path("new") / name]


def test_a_name_fits_the_disk(tmp_path: Path) -> None:
    wide = ImageRequest(prompt="\U00020000" * 80, sampling=Sampling(seed=2**63 - 1))
    (path,) = output_paths(tmp_path, wide)
    save_picture(picture(), path)  # letters of four bytes, where a name may have 255
    assert path.is_file()


def test_other_kinds_of_file_are_refused() -> None:
    with pytest.raises(UserError, match=r"cannot write a/x\.jpg: pictures are PNG files; name it a/x\.png"):
        output_paths(Path("a/x.jpg"), request())


def test_checking_leaves_no_folder_behind(tmp_path: Path) -> None:
    check_writable([tmp_path / "a" / "b" / "x.png", tmp_path / "a" / "y.png", tmp_path / "z.png"], overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_existing_pictures_are_kept_unless_told(tmp_path: Path) -> None:
    there = tmp_path / "x-1.png"
    there.write_bytes(b"mine")
    paths = [tmp_path / "x-0.png", there]
    with pytest.raises(UserError, match=r"x-1\.png exists; name another --out, or replace it with --overwrite"):
        check_writable(paths, overwrite=False)
    check_writable(paths, overwrite=True)
    assert there.read_bytes() == b"mine"


def test_what_cannot_be_written_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=r"folder\.png is a folder"):
        check_writable([tmp_path / "folder.png"], overwrite=True)
    with pytest.raises(UserError, match=r"cannot make the folder .*file/deeper"):
        check_writable([tmp_path / "file" / "deeper" / "x.png"], overwrite=True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(UserError, match="permission denied"):
        check_writable([tmp_path / "new" / "x.png"], overwrite=True)
    assert not (tmp_path / "new").exists()


def record(wanted: ImageRequest, index: int = 0) -> PictureRecord:
    return PictureRecord(request=wanted, index=index, steps_run=3)


@pytest.mark.capability("png-metadata")
def test_a_picture_comes_back_with_its_texts(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.png"
    texts = {METADATA_KEY: record(request("빨간 하트 ❤")).model_dump_json(), "parameters": "café: a\nb"}
    save_picture(picture(), path, texts)
    assert [entry.name for entry in path.parent.iterdir()] == ["x.png"]
    assert read_record(path).request == request("빨간 하트 ❤")
    assert read_record(path) == record(request("빨간 하트 ❤"))
    assert read_texts(path) == texts
    with Image.open(path) as image:
        assert image.tobytes() == picture().tobytes()


@pytest.mark.capability("no-metadata")
def test_a_picture_without_texts_tells_nothing(tmp_path: Path) -> None:
    """Not even what the file told that it came from."""
    exif = Image.Exif()
    exif[0x013B] = "the artist"
    start = picture()
    start.save(tmp_path / "start.png", exif=exif, icc_profile=b"profile", pnginfo=with_comment())
    with Image.open(tmp_path / "start.png") as opened:
        opened.load()
        save_picture(opened, tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    kinds = [kind for kind in (b"IHDR", b"IDAT", b"IEND", b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"iCCP") if kind in data]
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]


def with_comment() -> PngInfo:
    info = PngInfo()
    info.add_text("comment", "a secret")
    return info


def test_a_picture_has_the_user_s_permissions(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        save_picture(picture(), tmp_path / "x.png")
    finally:
        os.umask(mask)
    assert (tmp_path / "x.png").stat().st_mode & 0o777 == 0o640


@pytest.mark.capability("whole-files")
def test_a_failed_write_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    save_picture(picture("red"), path)
    before = path.read_bytes()

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"cannot write .*x\.png \(No space left on device\)"):
        save_picture(picture("blue"), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.png"]


def with_text(path: Path, text: str | None) -> Path:
    info = PngInfo()
    if text is not None:
        info.add_itxt(METADATA_KEY, text)
    picture().save(path, pnginfo=info)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "carries no request"),
        ("not json", "is damaged"),
        ("[1]", "is damaged"),
        ("{}", "request: Field required"),
        ('{"request": 3}', "request in"),
        (
            '{"request": {"prompt": "x"}, "index": 1, "steps_run": 1}',
            "picture 1 in a batch of 1 from 0 on, of 1 in all",
        ),
        ("[" * 100_000, "is damaged"),
        ('{"request": {"prompt": "x", "sampling": {"seed": ' + "9" * 5000 + "}}}", "is damaged"),
        ('{"request": {"prompt": "x", "guidance": {"weight": NaN}}}', "nan is not a finite number"),
        ('{"request": {"version": 2, "prompt": "x"}}', "version"),
        ('{"request": {"prompt": "x", "sampling": {"steps": 0}}}', "sampling.steps"),
    ],
)
def test_other_pictures_are_refused_in_one_line(text: str | None, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.png") as caught:
        read_record(with_text(tmp_path / "x.png", text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*absent"):
        read_record(tmp_path / "absent.png")
    (tmp_path / "x.png").write_bytes(b"\x89PNG no more")
    with pytest.raises(UserError, match=r"cannot read .*x\.png"):
        read_record(tmp_path / "x.png")
