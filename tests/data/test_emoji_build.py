"""Drawing the emoji and writing the world's folder."""

import hashlib
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, features

from latentbrush.data import ImageFolder
from latentbrush.data.emoji import (
    Emoji,
    EmojiRecord,
    assign,
    build_emoji_world,
    draw_emoji,
    open_font,
    read_emoji,
)
from latentbrush.errors import UserError

pytestmark = pytest.mark.capability("emoji-data")


@pytest.fixture
def font(debian_emoji: None) -> ImageFont.FreeTypeFont:
    return open_font()


def _contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.emoji
def test_every_emoji_has_a_picture_and_no_held_out_one_a_twin(emoji: list[Emoji], font: ImageFont.FreeTypeFont) -> None:
    twins = defaultdict(list)
    for one in emoji:
        picture = draw_emoji(one.text, font)
        assert (picture.mode, picture.size) == ("RGBA", (128, 128))
        alpha = np.asarray(picture.getchannel("A"))
        # The smallest picture ('black small square' and its like) covers 4 % of the square.
        assert (alpha > 0).mean() > 0.02, one.name
        twins[hashlib.sha256(picture.tobytes()).digest()].append(one)
    for group in twins.values():
        if len(group) > 1:
            # A pixel-identical twin in training would make 'held out' an empty word.
            assert {assign(one.codepoints).split for one in group} == {"train"}, group[0].name


@pytest.mark.emoji
@pytest.mark.parametrize("text", ["\N{GRINNING FACE}", "\N{WOMAN}\u200d\N{FIRE ENGINE}", "\N{FOG}\ufe0f"])
def test_edges_have_the_colours_of_the_font(text: str, font: ImageFont.FreeTypeFont) -> None:
    """Composited on white it is what Pillow draws on white: no dark rim from premultiplied colours."""
    drawn = Image.new("RGB", (136, 128), "white")
    ImageDraw.Draw(drawn).text((0, 0), text, font=font, embedded_color=True)
    picture = draw_emoji(text, font)
    composed = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    difference = np.asarray(composed).astype(int) - np.asarray(drawn.crop((4, 0, 132, 128)))
    assert abs(difference).max() <= 1


@pytest.mark.emoji
def test_what_the_font_lacks_is_refused(font: ImageFont.FreeTypeFont) -> None:
    # A woman who would be a pizza: two glyphs. And a letter of a plane without emoji: none.
    for text in ("\N{WOMAN}\u200d\N{SLICE OF PIZZA}", "\U000f0000"):
        with pytest.raises(UserError, match="no single picture"):
            draw_emoji(text, font)


def test_missing_font_or_layout_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if features.check("raqm"):
        with pytest.raises(UserError, match=r"none\.ttf .*fonts-noto-color-emoji"):
            open_font(tmp_path / "none.ttf")
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(UserError, match="libraqm0"):
        open_font()


@pytest.mark.emoji
def test_build_writes_pictures_and_records(tmp_path: Path, few_emoji: Path) -> None:
    progress: list[tuple[int, int]] = []
    directory = tmp_path / "new" / "world"
    count = build_emoji_world(
        directory, on_progress=lambda done, total: progress.append((done, total)), emoji_test=few_emoji
    )
    # One of the seven lines is unqualified.
    assert count == 6
    assert progress == [(done, 6) for done in range(1, 7)]
    folder = ImageFolder(directory)
    records = [EmojiRecord.parse(record) for record in folder.records]
    assert records == [EmojiRecord.of(one) for one in read_emoji(few_emoji)]
    assert [record.file_name for record in records][-3:] == [
        "1F469-1F3FD-200D-1F692.png",
        "1F1F0-1F1F7.png",
        "0031-FE0F-20E3.png",
    ]
    assert folder.captions[3] == "woman firefighter: medium skin tone"
    assert {record.name: (record.split, record.hard) for record in records[1:3]} == {
        "purple heart": ("test", False),
        "man student": ("test", True),
    }
    assert folder.image(0).tobytes() == draw_emoji("❤️", open_font()).tobytes()
    # The temporary folder was private; the finished one is as the user's mask says.
    mask = os.umask(0)
    os.umask(mask)
    assert directory.stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.emoji
def test_build_is_deterministic(tmp_path: Path, few_emoji: Path) -> None:
    for name in ("one", "two"):
        build_emoji_world(tmp_path / name, emoji_test=few_emoji)
    assert _contents(tmp_path / "one") == _contents(tmp_path / "two")


@pytest.mark.emoji
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_interrupted_build_leaves_nothing(tmp_path: Path, few_emoji: Path, error: type[BaseException]) -> None:
    before = _contents(tmp_path)

    def stop(done: int, total: int) -> None:
        # Something was begun, and not in its final place.
        assert not (tmp_path / "world").exists()
        assert any(path.is_dir() for path in tmp_path.iterdir())
        if done == 3:
            raise error("half way")

    with pytest.raises((error, UserError)):
        build_emoji_world(tmp_path / "world", on_progress=stop, emoji_test=few_emoji)
    assert _contents(tmp_path) == before


@pytest.mark.emoji
def test_existing_work_is_not_overwritten(tmp_path: Path, few_emoji: Path) -> None:
    world = tmp_path / "world"
    world.mkdir()
    # An empty folder is welcome.
    build_emoji_world(world, emoji_test=few_emoji)
    before = _contents(world)
    with pytest.raises(UserError, match=r"world is not empty: remove it or choose another"):
        build_emoji_world(world, emoji_test=few_emoji)
    assert _contents(world) == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="not a folder"):
        build_emoji_world(tmp_path / "file", emoji_test=few_emoji)
    with pytest.raises(UserError, match="cannot write"):
        build_emoji_world(tmp_path / "file" / "world", emoji_test=few_emoji)
    assert (tmp_path / "file").read_text() == "mine"


def test_records_refuse_other_folders() -> None:
    with pytest.raises(UserError, match=r"x\.png lacks text, emoji, .*build the emoji world anew"):
        EmojiRecord.parse({"file_name": "x.png"})
    record = EmojiRecord.of(Emoji((0x1F600,), "grinning face", "Smileys & Emotion", "face-smiling"))
    assert EmojiRecord.parse({**record.to_json(), "more": 1}) == record
    for key, value, needed in (
        ("split", "dev", "one of train, validation, test"),
        ("split", ["train"], "one of train"),
        ("name", 5, "a text"),
        ("name_ko", 5, "a text or null"),
        ("hard", "no", "true or false"),
        ("keywords", None, "a list of texts"),
        ("keywords", "face", "a list of texts"),
        ("attributes", [1], "a list of texts"),
    ):
        with pytest.raises(UserError) as caught:
            EmojiRecord.parse({**record.to_json(), key: value})
        assert f"{key} {value!r} in metadata.jsonl, needed is {needed}" in str(caught.value)
