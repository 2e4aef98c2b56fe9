"""Build the emoji world: a folder of 128-pixel pictures and one metadata.jsonl, from Debian's packages."""

import json
from collections.abc import Callable
from pathlib import Path

from latentbrush.data.emoji.draw import FONT, draw_emoji, open_font
from latentbrush.data.emoji.record import EmojiRecord
from latentbrush.data.emoji.source import CLDR_DIRECTORY, EMOJI_TEST, read_emoji
from latentbrush.errors import UserError
from latentbrush.files import whole_folder

__all__ = ["build_emoji_world"]


def build_emoji_world(
    directory: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    emoji_test: Path = EMOJI_TEST,
    cldr: Path = CLDR_DIRECTORY,
    font: Path = FONT,
) -> int:
    """Write every emoji as RGBA PNG with its record, in the ImageFolder convention; return how many.

    The same packages and the same Pillow give the same bytes. `on_progress(done, total)` is called after
    every picture. The folder appears whole or not at all: it is filled beside its place and then renamed, and
    what was begun is removed on any error and on Ctrl-C. UserError where `directory` exists and is not empty,
    or a package is missing.
    """
    _refuse_existing(directory)
    emoji = read_emoji(emoji_test, cldr)
    typeface = open_font(font)
    with whole_folder(directory) as new, (new / "metadata.jsonl").open("w", encoding="utf-8", newline="\n") as metadata:
        for done, one in enumerate(emoji, start=1):
            record = EmojiRecord.of(one)
            draw_emoji(one.text, typeface).save(new / record.file_name, format="PNG")
            metadata.write(json.dumps(record.to_json(), ensure_ascii=False) + "\n")
            if on_progress is not None:
                on_progress(done, len(emoji))
    return len(emoji)


def _refuse_existing(directory: Path) -> None:
    if directory.is_dir():
        if any(directory.iterdir()):
            raise UserError(f"{directory} is not empty: remove it or choose another folder for the emoji world")
    elif directory.exists() or directory.is_symlink():
        raise UserError(f"{directory} is not a folder: choose another place for the emoji world")
