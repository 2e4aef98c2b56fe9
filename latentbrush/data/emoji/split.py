"""Which combinations are held out of training, decided for each emoji by its code points alone.

Composition is what the emoji world measures: a held-out emoji is a *combination* that was never trained on,
of parts that all were. The rule is a keyed hash, so it does not move with the Unicode version, the order of
the file or the other emoji present, and it never takes away a part:

- *tones*: every gendered person (adult with a profession or hair style, or person with a gender sign) loses
  one of its five skin tones, and keeps the other four and the one without tone;
- *hard*: some professions lose a whole gender, in every tone and without, so that the pair of gender and
  profession is new and not only its tone; the neutral person and the other gender stay;
- *colours*: some of the seven colours lose one of heart, circle and square, and keep the other two.

Held-out emoji fall into two halves: `validation`, to choose checkpoints by, and `test`, to report.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from latentbrush.data.emoji.variants import (
    HAIR,
    TONES,
    Person,
    codepoint_key,
    parse_person,
    without_selectors,
    without_tones,
)

__all__ = ["COLOURS", "SPLITS", "Assignment", "Split", "assign"]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

COLOURS: dict[str, tuple[int, int, int]] = {
    # colour: heart, circle, square
    "red": (0x2764, 0x1F534, 0x1F7E5),
    "orange": (0x1F9E1, 0x1F7E0, 0x1F7E7),
    "yellow": (0x1F49B, 0x1F7E1, 0x1F7E8),
    "green": (0x1F49A, 0x1F7E2, 0x1F7E9),
    "blue": (0x1F499, 0x1F535, 0x1F7E6),
    "purple": (0x1F49C, 0x1F7E3, 0x1F7EA),
    "brown": (0x1F90E, 0x1F7E4, 0x1F7EB),
}
"""The colours of all three shapes. Black and white squares come in four sizes, so they would not be new."""

# Changing the key draws another split: every published figure would lose its meaning. 104 is the first number
# that gives both halves three hard pairs, of both genders, and two colours.
_KEY = "latentbrush emoji split 104"
_HARD_SHARE = 0.35  # of the professions
_COLOUR_SHARE = 0.5  # of the colours


@dataclass(frozen=True)
class Assignment:
    """Where an emoji belongs; `hard` marks the held-out pairs of gender and profession."""

    split: Split
    hard: bool = False


def assign(codepoints: Sequence[int]) -> Assignment:
    """The emoji's split, a function of its code points and of nothing else (U+FE0F does not count)."""
    person = parse_person(codepoints)
    if person is not None:
        if _is_hard(person):
            # One half a pair: half a pair in validation would show the choice of checkpoint the tested pair.
            return Assignment(_half(without_tones(codepoints)), hard=True)
        if person.tone is not None and person.tone == _held_out_tone(codepoints):
            return Assignment(_half(without_selectors(codepoints)))
    if _is_held_out_colour(codepoints):
        return Assignment(_half(without_selectors(codepoints)))
    return Assignment("train")


def _is_hard(person: Person) -> bool:
    if not person.joined or person.role in HAIR or person.gender == "person":
        return False
    draw = _Draw("hard", [person.role])
    return draw.fraction < _HARD_SHARE and person.gender == ("man", "woman")[draw.choice(2)]


def _held_out_tone(codepoints: Sequence[int]) -> int:
    return TONES[_Draw("tone", without_tones(codepoints)).choice(len(TONES))]


def _is_held_out_colour(codepoints: Sequence[int]) -> bool:
    bare = without_selectors(codepoints)
    for shapes in COLOURS.values():
        if len(bare) == 1 and bare[0] in shapes:
            draw = _Draw("colour", shapes)
            return draw.fraction < _COLOUR_SHARE and bare[0] == shapes[draw.choice(len(shapes))]
    return False


def _half(codepoints: Sequence[int]) -> Split:
    return ("validation", "test")[_Draw("half", codepoints).choice(2)]


class _Draw:
    """Two independent numbers keyed by a purpose and code points: `fraction` in [0, 1), and a choice."""

    def __init__(self, purpose: str, codepoints: Sequence[int]) -> None:
        digest = hashlib.sha256(f"{_KEY}:{purpose}:{codepoint_key(codepoints)}".encode()).digest()
        self.fraction = int.from_bytes(digest[:8], "big") / 2**64
        self._number = int.from_bytes(digest[8:16], "big")

    def choice(self, count: int) -> int:
        """A number in [0, count)."""
        return self._number % count
