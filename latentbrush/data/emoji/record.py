"""One line of the emoji world's metadata.jsonl, with types."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from latentbrush.data.emoji.source import Emoji
from latentbrush.data.emoji.split import SPLITS, Split, assign
from latentbrush.errors import UserError, short

__all__ = ["EmojiRecord"]

# Type of a field -> what it is called, and what of JSON it takes.
_KINDS: Mapping[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("a text", lambda value: isinstance(value, str)),
    str | None: ("a text or null", lambda value: value is None or isinstance(value, str)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    tuple[str, ...]: (
        "a list of texts",
        lambda value: isinstance(value, list | tuple) and all(isinstance(one, str) for one in value),
    ),
    Split: (f"one of {', '.join(SPLITS)}", lambda value: value in SPLITS),
}


@dataclass(frozen=True)
class EmojiRecord:
    """Everything known of one picture; the fields are those of metadata.jsonl, in its order.

    `text` is the plain caption (the English name) under the key that other trainers look for; `codepoints` is
    hexadecimal, joined by hyphens; `name_ko` is None and `keywords_ko` empty where CLDR has no Korean.
    """

    file_name: str
    text: str
    emoji: str
    codepoints: str
    name: str
    keywords: tuple[str, ...]
    name_ko: str | None
    keywords_ko: tuple[str, ...]
    group: str
    subgroup: str
    base: str
    attributes: tuple[str, ...]
    family: str
    split: Split
    hard: bool

    @classmethod
    def of(cls, emoji: Emoji) -> "EmojiRecord":
        """The record of an emoji, with its split."""
        assignment = assign(emoji.codepoints)
        return cls(
            file_name=f"{emoji.key}.png",
            text=emoji.name,
            emoji=emoji.text,
            codepoints=emoji.key,
            name=emoji.name,
            keywords=emoji.keywords,
            name_ko=emoji.name_ko,
            keywords_ko=emoji.keywords_ko,
            group=emoji.group,
            subgroup=emoji.subgroup,
            base=emoji.base,
            attributes=emoji.attributes,
            family=emoji.family,
            split=assignment.split,
            hard=assignment.hard,
        )

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> "EmojiRecord":
        """The record of one parsed line of metadata.jsonl; further keys are ignored.

        UserError where a field is missing, of another kind, or no split that there is: the folder is not an emoji
        world.
        """
        name = values.get("file_name", "a line without file_name")
        missing = [field.name for field in fields(cls) if field.name not in values]
        if missing:
            raise UserError(f"{name} lacks {', '.join(missing)} in metadata.jsonl: build the emoji world anew")
        chosen: dict[str, Any] = {}
        for field in fields(cls):
            value = values[field.name]
            needed, fits = _KINDS[field.type]
            if not fits(value):
                raise UserError(
                    f"{name} has {field.name} {short(value)} in metadata.jsonl, needed is {needed}: "
                    "build the emoji world anew"
                )
            chosen[field.name] = tuple(value) if isinstance(value, list) else value
        return cls(**chosen)

    def to_json(self) -> dict[str, Any]:
        """A dictionary for `json.dumps`, its keys in the order of the fields."""
        return asdict(self)
