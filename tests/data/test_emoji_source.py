"""Names, keywords, attributes and families of the emoji."""

from collections import Counter
from pathlib import Path

import pytest

from latentbrush.data.emoji import Emoji, read_emoji
from latentbrush.data.emoji.source import CLDR_DIRECTORY, EMOJI_TEST, read_annotations
from latentbrush.data.emoji.variants import family_of, parse_person
from latentbrush.errors import UserError

pytestmark = pytest.mark.capability("emoji-data")


def _named(name: str, text: str = "x") -> Emoji:
    return Emoji(tuple(map(ord, text)), name, group="", subgroup="")


@pytest.mark.emoji
def test_counts_of_unicode_15(emoji: list[Emoji]) -> None:
    if "# Version: 15.0" not in EMOJI_TEST.read_text(encoding="utf-8"):
        pytest.skip("another Unicode version is installed")
    assert len(emoji) == 3655
    assert sum(one.name_ko is not None for one in emoji) == 3624
    assert sum(not any(phrase.endswith("skin tone") for phrase in one.attributes) for one in emoji) == 1870


@pytest.mark.emoji
def test_every_emoji_is_distinct_and_named(emoji: list[Emoji]) -> None:
    assert len({one.key for one in emoji}) == len({one.name for one in emoji}) == len(emoji)
    assert all(one.name and one.base and one.group and one.subgroup for one in emoji)
    assert all(one.keywords_ko for one in emoji if one.name_ko is not None)


@pytest.mark.emoji
def test_words_of_known_emoji(emoji: list[Emoji]) -> None:
    by_name = {one.name: one for one in emoji}
    firefighter = by_name["woman firefighter: medium skin tone"]
    assert firefighter.text == "\N{WOMAN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}\u200d\N{FIRE ENGINE}"
    assert firefighter.key == "1F469-1F3FD-200D-1F692"
    assert (firefighter.base, firefighter.attributes) == ("woman firefighter", ("medium skin tone",))
    assert "firefighter" in firefighter.keywords
    assert firefighter.name_ko == "여자 소방관: 갈색 피부"
    assert "소방관" in firefighter.keywords_ko
    assert (firefighter.group, firefighter.subgroup) == ("People & Body", "person-role")
    # Spelt with U+FE0F here and without it in CLDR.
    assert by_name["red heart"].name_ko == "빨간색 하트"


@pytest.mark.parametrize(
    ("name", "base", "attributes"),
    [
        ("grinning face", "grinning face", ()),
        ("man: red hair", "man", ("red hair",)),
        ("woman: light skin tone, bald", "woman", ("light skin tone", "bald")),
        ("flag: South Korea", "flag: South Korea", ()),
        ("keycap: 1", "keycap: 1", ()),
        ("family: man, woman, boy", "family: man, woman, boy", ()),
        (
            "couple with heart: woman, man, light skin tone, dark skin tone",
            "couple with heart: woman, man",
            ("light skin tone", "dark skin tone"),
        ),
    ],
)
def test_name_splits_into_base_and_attributes(name: str, base: str, attributes: tuple[str, ...]) -> None:
    assert (_named(name).base, _named(name).attributes) == (base, attributes)


@pytest.mark.emoji
def test_families_differ_by_tone_gender_and_hair_only(emoji: list[Emoji]) -> None:
    family = {one.name: one.family for one in emoji}
    size = Counter(family.values())
    assert family["firefighter"] == family["man firefighter"] == family["woman firefighter: dark skin tone"]
    assert family["man: beard"] == family["woman: red hair"] == family["person: blond hair"] == family["man"]
    assert family["old man"] == family["older person: light skin tone"] != family["person"]
    assert family["prince"] == family["princess"] == family["person with crown"]
    assert (
        family["kiss"]
        == family["kiss: man, man, dark skin tone"]
        != family["couple with heart: woman, man"]
        == family["couple with heart"]
    )
    assert family["women holding hands"] == family["men holding hands: light skin tone, dark skin tone"]
    assert family["handshake"] == family["handshake: light skin tone, dark skin tone"]
    assert family["red heart"] != family["blue heart"]
    assert size[family["firefighter"]] == 18
    assert size[family["handshake"]] == 26
    assert size[family["pizza"]] == size[family["flag: South Korea"]] == 1


def test_family_of_a_component_is_itself() -> None:
    assert family_of((0x1F9B0,)) == "1F9B0"
    assert family_of((0x1F3FD,)) == "1F3FD"


@pytest.mark.emoji
def test_people_are_read_from_code_points_as_from_names(emoji: list[Emoji]) -> None:
    read = {one.name: parse_person(one.codepoints) for one in emoji}
    for name, gender in (("man pilot", "man"), ("woman elf: dark skin tone", "woman"), ("singer", "person")):
        person = read[name]
        assert person is not None
        assert person.gender == gender
    for name in (
        "man",
        "police officer",
        "family: man, boy",
        "kiss: man, man",
        "heart on fire",
        "pirate flag",
    ):
        assert read[name] is None
    # Two ways to the same answer: what code points call a man or a woman, the name does too.
    for name, person in read.items():
        if person is not None and not name.startswith("merm"):
            words = set(name.replace(":", "").split())
            assert (person.gender == "man") == bool(words & {"man", "men"}), name
            assert (person.gender == "woman") == bool(words & {"woman", "women"}), name


def test_missing_files_name_path_and_package(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"annotations/en\.xml .*unicode-cldr-core"):
        read_emoji(cldr=tmp_path)
    for folder in ("annotations", "annotationsDerived"):
        (tmp_path / folder).mkdir()
        for language in ("en", "ko"):
            (tmp_path / folder / f"{language}.xml").write_text("<ldml/>")
    with pytest.raises(UserError, match=r"nothing\.txt .*unicode-data"):
        read_emoji(tmp_path / "nothing.txt", cldr=tmp_path)
    (tmp_path / "empty.txt").write_text("# group: none\n")
    with pytest.raises(UserError, match="no fully-qualified emoji"):
        read_emoji(tmp_path / "empty.txt", cldr=tmp_path)


def test_annotations_skip_inherited_words_and_refuse_broken_files(tmp_path: Path) -> None:
    for folder, body in (
        (
            "annotations",
            '<annotation cp="a">x | y z</annotation><annotation cp="b" type="tts">↑↑↑</annotation>',
        ),
        ("annotationsDerived", '<annotation cp="c\ufe0f" type="tts">see</annotation>'),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "en.xml").write_text(f"<ldml>{body}</ldml>", encoding="utf-8")
    annotations = read_annotations("en", tmp_path)
    assert annotations.keys() == {"a", "c"}
    assert annotations["a"].keywords == ("x", "y z")
    assert annotations["a"].name is None
    assert annotations["c"].name == "see"
    (tmp_path / "annotations" / "en.xml").write_text("<ldml>")
    with pytest.raises(UserError, match="is not XML"):
        read_annotations("en", tmp_path)


@pytest.mark.emoji
def test_english_annotations_agree_with_the_list(emoji: list[Emoji]) -> None:
    """Two files of Unicode's, read by two parsers: nearly all English names are the same in both."""
    annotations = read_annotations("en", CLDR_DIRECTORY)
    same = sum(
        annotations[text].name == one.name for one in emoji if (text := one.text.replace("\ufe0f", "")) in annotations
    )
    assert same > 0.95 * len(emoji)
