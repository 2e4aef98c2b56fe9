"""Files and folders that appear whole or not at all: written beside their place, then renamed; and small files read."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from latentbrush.errors import UserError

__all__ = ["MAX_TEXT", "new_folders", "read_json", "small_text", "whole_file", "whole_folder", "write_json"]

MAX_TEXT = 64 * 2**20
"""Bytes of a text file that is read whole; the largest published vocabularies have a quarter of it."""
MAX_DEPTH = 32
"""Levels of a JSON file; configurations have three or four, and Python's own limit ends in odd places."""


def _beside(path: Path) -> Path:
    """A name in the same folder, so that the move is one rename on one disk.

    Names are limited in bytes (255 on most disks), of which a letter has up to four.
    """
    start = os.fsencode(path.name)[:100].decode(errors="ignore")
    return path.with_name(f".{start}.{secrets.token_hex(4)}.part")


def _refusal(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {path} ({error.strerror or error}); make room or choose another place")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """An empty file to write, which takes the place of `path` if the block ends well and is gone if not.

    Its mode is what the user's new files have, even where the writer makes private ones. UserError where
    the disk refuses.
    """
    beside = _beside(path)
    try:
        with beside.open("xb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        yield beside
        beside.chmod(mode)
        os.replace(beside, path)
    except OSError as error:
        raise _refusal(path, error) from None
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `path` and what was in it if the block ends well.

    Whether a folder may be replaced is the caller's to decide beforehand. Parents that are absent are made, and go
    again with a block that fails. UserError where the disk refuses, and for a link: only the link could be replaced.
    """
    path = path.absolute()  # ~ is a letter: who means a home has had it read by the shell
    if path.is_symlink():
        raise UserError(f"{path} is a link; give the folder that it leads to, or another name")
    new, old = _beside(path), _beside(path)
    try:
        with new_folders(path.parent), _settled(path, new, old):
            new.mkdir()
            yield new
            if path.exists():
                path.rename(old)
            new.rename(path)
    except OSError as error:
        raise _refusal(path, error) from None


@contextmanager
def _settled(path: Path, new: Path, old: Path) -> Iterator[None]:
    try:
        yield
    finally:
        try:
            _settle(path, new, old)
        except KeyboardInterrupt:
            _settle(path, new, old)
            raise


def _settle(path: Path, new: Path, old: Path) -> None:
    """Between the two renames an interrupt or a failure leaves no folder: put the old one back. Remove the rest."""
    if old.exists() and not path.exists():
        old.rename(path)
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def new_folders(folder: Path, *, keep: bool = True) -> Iterator[None]:
    """Makes `folder` and its parents; if the block fails, or `keep` is false, those it made and are empty go again.

    OSError where the disk refuses.
    """
    absent = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    done = False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
        done = keep
    finally:
        for made in [] if done else absent:
            with suppress(OSError):  # it could not be made, or is no longer empty
                made.rmdir()


def small_text(path: Path, most: int | None = None) -> str:
    """A text file. OSError or ValueError for what is no regular file of UTF-8, or has more than `most` bytes.

    `most`: None for `MAX_TEXT`.
    """
    most = MAX_TEXT if most is None else most
    if path.exists() and not path.is_file():
        raise ValueError("it is no regular file")  # a pipe would be waited for, a device never end
    size = path.stat().st_size
    if size > most:
        raise ValueError(f"it has {size} bytes, at most {most} are read")
    return path.read_text(encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. UserError that names the file if it is missing, broken or no object.

    Broken are, too, keys that are stated twice, of which other readers may take the other, and deep nesting.
    """
    try:
        text = small_text(path)
        content = json.loads(text, object_pairs_hook=_object)
        _check_depth(content, MAX_DEPTH)
        if "\\ud" in text.lower():  # half a letter would fail wherever the text is written
            json.dumps(content, ensure_ascii=False).encode()
    except FileNotFoundError:
        raise UserError(f"{path} is missing; give a folder with all its files") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); copy or download it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a JSON {type(content).__name__}, needed is an object; copy it again")
    return content


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"it states {twice!r} twice")
    return content


def _check_depth(value: Any, levels: int) -> None:
    if isinstance(value, dict | list):
        if not levels:
            raise ValueError(f"it has more than {MAX_DEPTH} levels")
        for inner in value.values() if isinstance(value, dict) else value:
            if isinstance(inner, dict | list):  # asked here, too: a vocabulary has tens of thousands of numbers
                _check_depth(inner, levels - 1)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
