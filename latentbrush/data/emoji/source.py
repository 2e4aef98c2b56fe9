"""The emoji and what people call them, from the Unicode data that Debian packages.

`emoji-test.txt` (UTS #51) lists every emoji with its English name, group and subgroup; CLDR's annotations
(UTS #35, part 2) hold keywords, and names in other languages. Nothing is downloaded.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from latentbrush.data.emoji.variants import codepoint_key, family_of, without_selectors
from latentbrush.errors import UserError

__all__ = ["CLDR_DIRECTORY", "EMOJI_TEST", "Annotation", "Emoji", "read_annotations", "read_emoji"]

EMOJI_TEST = Path("/usr/share/unicode/emoji/emoji-test.txt")
"""Where Debian's package unicode-data puts the list of emoji."""
CLDR_DIRECTORY = Path("/usr/share/unicode/cldr/common")
"""Where Debian's package unicode-cldr-core puts annotations/ and annotationsDerived/."""

# "1F469 200D 1F692   ; fully-qualified   # <the emoji> E4.0 woman firefighter"
_LINE = re.compile(r"^(?P<points>[0-9A-F ]+?)\s*;\s*fully-qualified\s*#\s*\S+\s+E[\d.]+\s+(?P<name>.+?)\s*$")
_HAIR_NAMES = frozenset({"red hair", "blond hair", "curly hair", "white hair", "bald", "beard"})
# CLDR's mark for "the same as in the parent locale": no words of this language.
_INHERITED = "↑↑↑"


@dataclass(frozen=True)
class Annotation:
    """What one language calls an emoji: `name` is None and `keywords` empty where CLDR has none."""

    name: str | None = None
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True)
class Emoji:
    """One fully-qualified emoji. `name` is English, as in emoji-test.txt; keywords are CLDR's."""

    codepoints: tuple[int, ...]
    name: str
    group: str
    subgroup: str
    keywords: tuple[str, ...] = ()
    name_ko: str | None = None
    keywords_ko: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The emoji itself, as a string of one to ten code points."""
        return "".join(map(chr, self.codepoints))

    @property
    def key(self) -> str:
        """The code points in hexadecimal, joined by hyphens: a file name's stem."""
        return codepoint_key(self.codepoints)

    @property
    def base(self) -> str:
        """The name without its attributes: 'man' for 'man: red hair', all of 'flag: South Korea'."""
        return _split_name(self.name)[0]

    @property
    def attributes(self) -> tuple[str, ...]:
        """The name's skin tones and hair, in its order: two tones belong to the left and the right person."""
        return _split_name(self.name)[1]

    @property
    def family(self) -> str:
        """Identifier shared by all variants that differ by skin tone, gender and hair only."""
        return family_of(self.codepoints)


def read_emoji(emoji_test: Path = EMOJI_TEST, cldr: Path = CLDR_DIRECTORY) -> list[Emoji]:
    """All fully-qualified emoji in the file's order (3,655 in Unicode 15.0), with English and Korean words.

    UserError where a file is missing or is not what its name says.
    """
    english, korean = read_annotations("en", cldr), read_annotations("ko", cldr)
    emoji: list[Emoji] = []
    group = subgroup = ""
    for line in _read_text(emoji_test, "unicode-data").splitlines():
        if line.startswith("# group:"):
            group = line.partition(":")[2].strip()
        elif line.startswith("# subgroup:"):
            subgroup = line.partition(":")[2].strip()
        elif match := _LINE.match(line):
            codepoints = tuple(int(point, 16) for point in match["points"].split())
            en, ko = _lookup(english, codepoints), _lookup(korean, codepoints)
            emoji.append(
                Emoji(codepoints, match["name"], group, subgroup, en.keywords, ko.name, ko.keywords),
            )
    if not emoji:
        raise UserError(f"{emoji_test} lists no fully-qualified emoji: give Unicode's emoji-test.txt instead")
    return emoji


def read_annotations(language: str, cldr: Path = CLDR_DIRECTORY) -> dict[str, Annotation]:
    """CLDR's names and keywords in one language ('en', 'ko'), by the emoji without U+FE0F.

    UserError where one of the two files is missing or is not XML.
    """
    names: dict[str, str] = {}
    keywords: dict[str, tuple[str, ...]] = {}
    for folder in ("annotations", "annotationsDerived"):
        path = cldr / folder / f"{language}.xml"
        try:
            root = ElementTree.fromstring(_read_text(path, "unicode-cldr-core"))
        except ElementTree.ParseError as error:
            raise UserError(f"{path} is not XML ({error}): reinstall Debian's unicode-cldr-core") from error
        for element in root.iter("annotation"):
            symbol = _plain(element.get("cp", ""))
            words = (element.text or "").strip()
            if not words or words == _INHERITED:
                continue
            if element.get("type") == "tts":
                names[symbol] = words
            else:
                keywords[symbol] = tuple(word.strip() for word in words.split("|") if word.strip())
    return {
        symbol: Annotation(names.get(symbol), keywords.get(symbol, ())) for symbol in names.keys() | keywords.keys()
    }


def _lookup(annotations: Mapping[str, Annotation], codepoints: Sequence[int]) -> Annotation:
    """CLDR leaves U+FE0F out of some keys and in others, so both sides are compared without it."""
    return annotations.get("".join(map(chr, without_selectors(codepoints))), Annotation())


def _plain(text: str) -> str:
    return "".join(map(chr, without_selectors([ord(character) for character in text])))


def _split_name(name: str) -> tuple[str, tuple[str, ...]]:
    """('couple with heart: woman, man', ('light skin tone', 'dark skin tone')): the rest stays."""
    base, colon, rest = name.partition(": ")
    phrases = rest.split(", ") if colon else []
    attributes = tuple(phrase for phrase in phrases if phrase.endswith(" skin tone") or phrase in _HAIR_NAMES)
    if not attributes:
        return name, ()
    others = [phrase for phrase in phrases if phrase not in attributes]
    return (f"{base}: {', '.join(others)}" if others else base), attributes


def _read_text(path: Path, package: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot read {path} ({reason}): install Debian's package {package} or give the path"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: reinstall Debian's package {package}") from error
