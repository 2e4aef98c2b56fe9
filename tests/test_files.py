"""Files and folders appear whole or not at all, with the modes of the user's other files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from latentbrush.errors import UserError
from latentbrush.files import whole_file, whole_folder
from latentbrush.formats import replaced_folder

pytestmark = pytest.mark.capability("whole-files")


def modes(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with whole_file(path) as beside:
        beside.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_private_writer_still_makes_an_ordinary_file(tmp_path: Path) -> None:
    """safetensors replaces the file it is given by one that only its owner may read."""
    (tmp_path / "ordinary").touch()
    with whole_file(tmp_path / "a") as beside:
        beside.unlink()
        os.close(os.open(beside, os.O_CREAT | os.O_WRONLY, 0o600))
    assert modes(tmp_path / "a") == modes(tmp_path / "ordinary")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_block_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), whole_file(path) as beside:
        beside.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_refusing_disk_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent/a\.txt .*choose another place"), whole_file(tmp_path / "absent/a.txt"):
        pytest.fail("the block must not be entered")
    with pytest.raises(UserError, match="No space left"), whole_file(tmp_path / "b"):
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_a_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").touch()
    with whole_folder(path) as new:
        (new / "new").touch()
    assert os.listdir(path) == ["new"]
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("name", ["~/model", "~nobody-of-that-name"])
def test_no_home_is_read_into_a_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell has read it where it is meant; one room that does so again writes where no other looks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with replaced_folder(Path(name), overwrite=False, ours=()) as new:
        (new / "new").touch()
    assert os.listdir(tmp_path / name) == ["new"]
    assert os.listdir(tmp_path) == [name.partition("/")[0]]


@pytest.mark.parametrize("letter", ["a", "가", "😀"])
def test_the_longest_names_that_a_disk_takes(letter: str, tmp_path: Path) -> None:
    path = tmp_path / (letter * (255 // len(letter.encode())))
    with whole_file(path) as beside:
        beside.write_text("new")
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_block_leaves_the_old_folder(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(error), whole_folder(path) as new:
        (new / "half").touch()
        raise error
    assert os.listdir(path) == ["old"]
    assert os.listdir(tmp_path) == ["model"]


def test_a_link_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("far")
    with pytest.raises(UserError, match=r"link is a link; give the folder"), whole_folder(tmp_path / "link") as new:
        (new / "file").touch()
    assert sorted(os.listdir(tmp_path)) == ["far", "link"]
    assert os.readlink(tmp_path / "link") == "far"
    assert os.listdir(tmp_path / "far") == []


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt])
def test_a_failed_block_leaves_no_parents_of_its_own(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "there").mkdir()
    wanted = UserError if error is OSError else error
    with pytest.raises(wanted), whole_folder(tmp_path / "there" / "deep" / "model") as new:
        (new / "half").touch()
        raise error
    assert os.listdir(tmp_path / "there") == []
    with whole_folder(tmp_path / "there" / "deep" / "model"):
        pass
    assert os.listdir(tmp_path / "there" / "deep") == ["model"]


def test_an_interrupt_between_the_two_moves_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").touch()
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        done = rename(self, target)
        if self == path:
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), whole_folder(path):
        patch.setattr(Path, "rename", interrupted)
    assert os.listdir(path) == ["old"]
    assert os.listdir(tmp_path) == ["model"]
