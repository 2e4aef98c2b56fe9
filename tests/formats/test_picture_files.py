"""PNG files: where they go, what they carry, and that they are whole or not there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from latentbrush.errors import UserError
from latentbrush.formats import METADATA_KEY, check_writable, output_paths, read_request, save_picture
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
    save_picture(picture(), path, wide, index=0)  # letters of four bytes, where a name may have 255
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


@pytest.mark.capability("png-metadata")
def test_a_picture_comes_back_with_its_request(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.png"
    save_picture(picture(), path, request("빨간 하트 ❤"), index=0)
    assert [entry.name for entry in path.parent.iterdir()] == ["x.png"]
    assert read_request(path) == request("빨간 하트 ❤")
    with Image.open(path) as image:
        assert image.tobytes() == picture().tobytes()
        metadata = json.loads(image.text[METADATA_KEY])  # type: ignore[attr-defined]
    assert metadata["index"] == 0
    assert metadata["versions"].keys() == {"latentbrush", "torch"}


def test_a_picture_has_the_user_s_permissions(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        save_picture(picture(), tmp_path / "x.png", request(), index=0)
    finally:
        os.umask(mask)
    assert (tmp_path / "x.png").stat().st_mode & 0o777 == 0o640


@pytest.mark.capability("whole-files")
def test_a_failed_write_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    save_picture(picture("red"), path, request(), index=0)
    before = path.read_bytes()

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"cannot write .*x\.png \(No space left on device\)"):
        save_picture(picture("blue"), path, request(), index=0)
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
        ("{}", "is damaged"),
        ('{"request": 3}', "request in"),
        ('{"request": {"version": 2, "prompt": "x"}}', "version"),
        ('{"request": {"prompt": "x", "sampling": {"steps": 0}}}', "sampling.steps"),
    ],
)
def test_other_pictures_are_refused_in_one_line(text: str | None, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.png") as caught:
        read_request(with_text(tmp_path / "x.png", text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*absent"):
        read_request(tmp_path / "absent.png")
    (tmp_path / "x.png").write_bytes(b"\x89PNG no more")
    with pytest.raises(UserError, match=r"cannot read .*x\.png"):
        read_request(tmp_path / "x.png")
