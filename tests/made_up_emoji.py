"""A made-up emoji world of fourteen 16-pixel pictures, in which everything composition accuracy asks for occurs."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image, ImageDraw

from latentbrush.data.emoji import EmojiRecord, Split

SHAPES = {
    "man cook": (4, 4, 11, 7),
    "woman cook": (4, 4, 11, 11),
    "man pilot": (4, 4, 7, 11),
    "woman pilot": (6, 6, 9, 9),
}
"""Each base is a block of its own size, in the middle: no shift makes one of another, and none leaves the picture."""
TONES = {"": "yellow", "light skin tone": "tan", "dark skin tone": "brown"}
HELD_OUT: dict[str, Split] = {
    "man cook: dark skin tone": "validation",
    "man pilot: light skin tone": "test",
    **dict.fromkeys(("woman pilot", "woman pilot: light skin tone", "woman pilot: dark skin tone"), "test"),
}


def make_emoji_folder(directory: Path) -> Path:
    """Four people in three tones, one of them held out as a hard pair, and two flags that look the same."""
    directory.mkdir(parents=True)
    records = []
    for base, box in SHAPES.items():
        for tone, colour in TONES.items():
            record = made_up_record(base, (tone,) if tone else ())
            _draw(directory / record.file_name, box, colour)
            records.append(record)
    for name in ("flag: Norway", "flag: Bouvet Island"):
        record = made_up_record(name, ())
        _draw(directory / record.file_name, (3, 5, 12, 10), "red")
        records.append(record)
    lines = [json.dumps(record.to_json()) + "\n" for record in records]
    (directory / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    return directory


def made_up_record(base: str, attributes: tuple[str, ...], split: Split | None = None) -> EmojiRecord:
    name = f"{base}: {', '.join(attributes)}" if attributes else base
    key = name.replace(": ", "-").replace(" ", "-")
    return EmojiRecord(
        file_name=f"{key}.png",
        text=name,
        emoji="■",
        codepoints=key,
        name=name,
        keywords=(base,),
        name_ko=None,
        keywords_ko=(),
        group="People & Body",
        subgroup="person-role",
        base=base,
        attributes=attributes,
        family=base.split()[-1],
        split=split or HELD_OUT.get(name, "train"),
        hard=base == "woman pilot",
    )


def _draw(path: Path, box: tuple[int, int, int, int], colour: str) -> None:
    image = Image.new("RGBA", (16, 16))
    ImageDraw.Draw(image).rectangle(box, colour)
    image.save(path)
