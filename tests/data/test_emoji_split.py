"""What is held out of the emoji world, and what stays."""

import hashlib
import random
from collections import Counter, defaultdict

import pytest

from latentbrush.data.emoji import Assignment, Emoji, assign
from latentbrush.data.emoji.split import COLOURS
from latentbrush.data.emoji.variants import HAIR, TONES, codepoint_key, parse_person, without_tones

pytestmark = pytest.mark.capability("emoji-split")

WOMAN, MAN, PERSON, JOINER = 0x1F469, 0x1F468, 0x1F9D1, 0x200D
STUDENT, ARTIST = 0x1F393, 0x1F3A8
FROZEN = "dae642f3469cdeea05bacfe03c4e911d7ff9c18f5a0995c94a0b82a2f317475f"


def _splits(emoji: list[Emoji]) -> dict[tuple[int, ...], Assignment]:
    return {one.codepoints: assign(one.codepoints) for one in emoji}


def test_known_assignments() -> None:
    """Golden values: figures are published on this split, so nothing may move it."""
    assert assign((MAN, JOINER, STUDENT)) == Assignment("test", hard=True)
    assert assign((MAN, TONES[2], JOINER, STUDENT)) == Assignment("test", hard=True)
    assert assign((WOMAN, JOINER, STUDENT)) == assign((PERSON, JOINER, STUDENT)) == Assignment("train")
    assert assign((WOMAN, JOINER, ARTIST)) == Assignment("test", hard=True)
    assert assign((0x1F49C,)) == Assignment("test")
    assert assign((0x2764,)) == assign((0x2764, 0xFE0F)) == Assignment("train")


@pytest.mark.emoji
def test_the_whole_split_is_frozen(emoji: list[Emoji]) -> None:
    """Unicode adds emoji but never changes one: the held-out of version 15.0 are these for ever."""
    held_out = sorted(
        f"{one.key} {assignment.split} {assignment.hard}"
        for one in emoji
        if (assignment := assign(one.codepoints)).split != "train"
    )
    if len(emoji) != 3655:
        pytest.skip("another Unicode version is installed")
    assert len(held_out) == 201
    assert hashlib.sha256("\n".join(held_out).encode()).hexdigest() == FROZEN


@pytest.mark.emoji
def test_about_two_hundred_in_two_even_halves(emoji: list[Emoji]) -> None:
    count = Counter((assignment.split, assignment.hard) for assignment in _splits(emoji).values())
    halves = {split: count[split, False] + count[split, True] for split in ("validation", "test")}
    assert 150 <= sum(halves.values()) <= 250
    assert min(halves.values()) >= 0.4 * sum(halves.values())
    assert count["validation", True] >= 12
    assert count["test", True] >= 12


@pytest.mark.emoji
def test_every_part_occurs_in_training(emoji: list[Emoji]) -> None:
    """Whatever a held-out emoji is made of is trained on in another emoji."""
    assignments = _splits(emoji)
    parts: defaultdict[str, set[tuple[object, ...]]] = defaultdict(set)
    for codepoints, assignment in assignments.items():
        person = parse_person(codepoints)
        side = "train" if assignment.split == "train" else "held out"
        if person is not None:
            # A hair style is a role here; each gender is also wanted in each tone, whatever the role.
            parts[side] |= {
                ("role", person.role, person.joined),
                ("gender and tone", person.gender, person.tone),
            }
        for colour, shapes in COLOURS.items():
            for shape, points in zip(("heart", "circle", "square"), shapes, strict=True):
                if codepoints in ((points,), (points, 0xFE0F)):
                    parts[side] |= {("colour", colour), ("shape", shape)}
    assert len(parts["held out"]) > 70
    assert parts["held out"] <= parts["train"]


@pytest.mark.emoji
def test_words_of_held_out_names_occur_in_training(emoji: list[Emoji]) -> None:
    """The same from the names' side: no word or attribute is met for the first time when held out."""

    def phrases(one: Emoji) -> set[str]:
        return {*one.base.replace(":", "").split(), *one.attributes}

    trained = set().union(*(phrases(one) for one in emoji if assign(one.codepoints).split == "train"))
    for one in emoji:
        assert phrases(one) <= trained, one.name


@pytest.mark.emoji
def test_only_compositions_are_held_out(emoji: list[Emoji]) -> None:
    colours = {(point,) for shapes in COLOURS.values() for point in shapes}
    for one in emoji:
        assignment = assign(one.codepoints)
        if assignment.split == "train":
            continue
        person = parse_person(one.codepoints)
        if person is None:
            assert tuple(point for point in one.codepoints if point != 0xFE0F) in colours, one.name
        else:
            # Without a tone only as part of a hard pair.
            assert assignment.hard or person.tone is not None, one.name


@pytest.mark.emoji
def test_tones_lose_one_of_five(emoji: list[Emoji]) -> None:
    lost = Counter(
        codepoint_key(without_tones(codepoints))
        for codepoints, assignment in _splits(emoji).items()
        if assignment.split != "train" and not assignment.hard and parse_person(codepoints) is not None
    )
    assert len(lost) > 100
    assert set(lost.values()) == {1}


@pytest.mark.emoji
def test_hard_pairs_are_absent_in_every_tone(emoji: list[Emoji]) -> None:
    pairs = defaultdict(list)
    genders = defaultdict(set)
    for codepoints, assignment in _splits(emoji).items():
        person = parse_person(codepoints)
        if person is None or not person.joined or person.role in HAIR:
            assert not assignment.hard
            continue
        pairs[person.role, person.gender].append(assignment)
        if not assignment.hard:
            genders[person.role].add(person.gender)
    hard = {pair: found for pair, found in pairs.items() if any(one.hard for one in found)}
    assert 4 <= len(hard) <= 10
    for (role, gender), found in hard.items():
        # Six variants, all held out, all in the same half.
        assert len(found) == 6
        assert len(set(found)) == 1
        assert found[0].split != "train"
        assert genders[role] == {"person", "man", "woman"} - {gender}


@pytest.mark.emoji
def test_colours_lose_one_of_three_shapes(emoji: list[Emoji]) -> None:
    held_out = [[point for point in shapes if assign((point,)).split != "train"] for shapes in COLOURS.values()]
    assert max(map(len, held_out)) == 1
    assert 2 <= sum(map(len, held_out)) <= 5
    names = {one.codepoints[0]: one.name for one in emoji if one.name.split()[0] in COLOURS}
    for colour, (heart, circle, square) in COLOURS.items():
        assert names[heart] == f"{colour} heart"
        assert names[circle] == f"{colour} circle"
        assert names[square] == f"{colour} square"


@pytest.mark.emoji
def test_split_ignores_the_other_emoji_and_their_order(emoji: list[Emoji]) -> None:
    everything = _splits(emoji)
    part = random.Random(0).sample(emoji, 400)
    assert _splits(part) == {one.codepoints: everything[one.codepoints] for one in part}
    # U+FE0F asks for a coloured picture only.
    for codepoints, assignment in everything.items():
        assert assign([point for point in codepoints if point != 0xFE0F]) == assignment
