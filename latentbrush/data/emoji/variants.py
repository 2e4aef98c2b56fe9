"""Which emoji are variants of one another, read off their code points alone.

Unicode composes people from parts: a skin tone modifier follows the person, a gender sign, a hair style or
the object of a profession is joined to it. Reading those parts from the code points, and not from the names,
keeps families and splits the same in every version and language of Unicode's data. See UTS #51, section 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["HAIR", "TONES", "Gender", "Person", "codepoint_key", "family_of", "parse_person", "without_tones"]

Gender = Literal["person", "man", "woman"]

VARIATION_SELECTOR = 0xFE0F
JOINER = 0x200D
TONES = (0x1F3FB, 0x1F3FC, 0x1F3FD, 0x1F3FE, 0x1F3FF)
"""Skin tone modifiers, from light to dark."""
HAIR = (0x1F9B0, 0x1F9B1, 0x1F9B2, 0x1F9B3)
"""Joined hair styles: red, curly, bald, white."""
PERSON, MAN, WOMAN = 0x1F9D1, 0x1F468, 0x1F469
CHILD, BOY, GIRL = 0x1F9D2, 0x1F466, 0x1F467
HANDSHAKE, HEART, KISS_MARK = 0x1F91D, 0x2764, 0x1F48B
_GENDER_OF_ADULT: dict[int, Gender] = {PERSON: "person", MAN: "man", WOMAN: "woman"}
_GENDER_OF_SIGN: dict[int, Gender] = {0x2642: "man", 0x2640: "woman"}

# What one code point stands for once gender and hair no longer count. The emoji older than Unicode's
# gender-neutral ones (Unicode 12 and 13) have code points of their own and must be named here.
_NEUTRAL: dict[int, tuple[int, ...]] = {
    MAN: (PERSON,),
    WOMAN: (PERSON,),
    0x1F471: (PERSON,),  # person: blond hair
    0x1F9D4: (PERSON,),  # person: beard
    BOY: (CHILD,),
    GIRL: (CHILD,),
    0x1F474: (0x1F9D3,),  # old man -> older person
    0x1F475: (0x1F9D3,),  # old woman
    0x1F934: (0x1FAC5,),  # prince -> person with crown
    0x1F478: (0x1FAC5,),  # princess
    0x1F385: (PERSON, 0x1F384),  # Santa Claus -> mx claus
    0x1F936: (PERSON, 0x1F384),  # Mrs. Claus
    0x1F930: (0x1FAC4,),  # pregnant woman -> pregnant person
    0x1FAC3: (0x1FAC4,),  # pregnant man
    0x1F483: (0x1F57A,),  # woman dancing, man dancing: there is no neutral dancer
    0x1F46B: (PERSON, HANDSHAKE, PERSON),  # woman and man holding hands -> people holding hands
    0x1F46C: (PERSON, HANDSHAKE, PERSON),  # men holding hands
    0x1F46D: (PERSON, HANDSHAKE, PERSON),  # women holding hands
    0x1F48F: (PERSON, HEART, KISS_MARK, PERSON),  # kiss
    0x1F491: (PERSON, HEART, PERSON),  # couple with heart
}
# A handshake of two skin tones is spelt as a rightwards and a leftwards hand.
_TWO_HANDS = (0x1FAF1, 0x1FAF2)


@dataclass(frozen=True)
class Person:
    """One person whose gender, and whose profession, activity or hair, are parts of the sequence.

    `role` is the joined object (a fire engine, red hair) or, with a gender sign, the person's own code point
    (a police officer); `joined` tells the two apart. `tone` is one of TONES, or None.
    """

    role: int
    gender: Gender
    tone: int | None
    joined: bool


def codepoint_key(codepoints: Sequence[int]) -> str:
    """The code points as upper-case hexadecimal numbers joined by hyphens, such as '1F469-200D-1F692'."""
    return "-".join(f"{point:04X}" for point in codepoints)


def without_selectors(codepoints: Sequence[int]) -> tuple[int, ...]:
    """The sequence without U+FE0F, which asks for a coloured picture and means nothing else."""
    return tuple(point for point in codepoints if point != VARIATION_SELECTOR)


def without_tones(codepoints: Sequence[int]) -> tuple[int, ...]:
    """The sequence without skin tones and U+FE0F: all tones of one emoji share it."""
    return tuple(point for point in without_selectors(codepoints) if point not in TONES)


def parse_person(codepoints: Sequence[int]) -> Person | None:
    """Read a single gendered person's parts; None for everything else, groups of people among it.

    Two spellings exist: adult, tone, joiner, object ('woman firefighter'), and person, tone, joiner, gender
    sign ('woman police officer').
    """
    parts = _split_at_joiners(without_selectors(codepoints))
    if len(parts) != 2 or len(parts[1]) != 1 or not 1 <= len(parts[0]) <= 2:
        return None
    who, what = parts[0][0], parts[1][0]
    tone = parts[0][1] if len(parts[0]) == 2 else None
    if tone is not None and tone not in TONES:
        return None
    if what in _GENDER_OF_SIGN:
        return Person(role=who, gender=_GENDER_OF_SIGN[what], tone=tone, joined=False)
    if who in _GENDER_OF_ADULT and what not in (*_GENDER_OF_ADULT, CHILD, BOY, GIRL):
        return Person(role=what, gender=_GENDER_OF_ADULT[who], tone=tone, joined=True)
    return None


def family_of(codepoints: Sequence[int]) -> str:
    """Identifier of the emoji that differ from this one by skin tone, gender and hair only.

    It is the hexadecimal key of the neutral form ('1F9D1-1F692' for every firefighter), without joiners.
    """
    neutral: list[int] = []
    for point in without_tones(codepoints):
        if point == JOINER or point in _GENDER_OF_SIGN or point in HAIR:
            continue
        neutral.extend(_NEUTRAL.get(point, (point,)))
    if tuple(neutral) == _TWO_HANDS:
        neutral = [HANDSHAKE]
    # A hair style alone (a component) would leave nothing; it is its own family.
    return codepoint_key(neutral or codepoints)


def _split_at_joiners(codepoints: Sequence[int]) -> list[tuple[int, ...]]:
    parts: list[tuple[int, ...]] = [()]
    for point in codepoints:
        if point == JOINER:
            parts.append(())
        else:
            parts[-1] = (*parts[-1], point)
    return parts
