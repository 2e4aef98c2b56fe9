"""Captions of the emoji: kinds, shares, and what they must never say."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from latentbrush.data.emoji import CaptionMix, Emoji, EmojiRecord, caption, family_weights
from latentbrush.errors import UserError

pytestmark = pytest.mark.capability("emoji-data")

HAIR = EmojiRecord.of(
    Emoji(
        codepoints=(0x1F469, 0x1F3FD, 0x200D, 0x1F9B0),
        name="woman: medium skin tone, red hair",
        group="People & Body",
        subgroup="person",
        keywords=("adult", "medium skin tone", "red hair", "woman"),
        name_ko="여자: 갈색 피부, 빨간 머리",
        keywords_ko=("갈색 피부", "빨간 머리", "여자"),
    )
)
COUPLE = EmojiRecord.of(
    Emoji(
        codepoints=(0x1F469, 0x1F3FB, 0x200D, 0x1F91D, 0x200D, 0x1F468, 0x1F3FF),
        name="woman and man holding hands: light skin tone, dark skin tone",
        group="People & Body",
        subgroup="family",
    )
)


def _draws(record: EmojiRecord, mix: CaptionMix, count: int = 4000) -> Counter[str]:
    rng = np.random.default_rng(0)
    return Counter(caption(record, rng, mix) for _ in range(count))


def _only(**shares: float) -> CaptionMix:
    return CaptionMix(**{"name": 0.0, "reordered": 0.0, "keywords": 0.0, "korean": 0.0} | shares)


def test_shares_of_the_default_mix() -> None:
    draws = _draws(HAIR, CaptionMix(), 20_000)
    total = sum(draws.values())
    names = draws[HAIR.name]
    korean = sum(count for text, count in draws.items() if any("가" <= letter <= "힣" for letter in text))
    reordered_or_keywords = total - names - korean
    # Five standard deviations of a share of 20,000 draws are at most 0.018.
    assert names / total == pytest.approx(0.4, abs=0.02)
    assert korean / total == pytest.approx(0.2, abs=0.02)
    assert draws[HAIR.name_ko or ""] / korean == pytest.approx(0.75, abs=0.04)
    assert reordered_or_keywords / total == pytest.approx(0.4, abs=0.02)
    assert sum(count for text, count in draws.items() if "adult" in text) / total == pytest.approx(
        # Two, three or four of the four keywords: 'adult' is in three of four captions.
        0.1 * 0.75,
        abs=0.02,
    )


def test_reordered_phrases_take_every_order_and_are_dropped_one_in_ten() -> None:
    draws = _draws(HAIR, _only(reordered=1.0), 20_000)
    whole = [text for text in draws if text.count(",") == 2]
    assert len(whole) == 6
    assert all(sorted(text.split(", ")) == sorted(["woman", "medium skin tone", "red hair"]) for text in whole)
    for phrase in ("medium skin tone", "red hair"):
        kept = sum(count for text, count in draws.items() if phrase in text)
        assert kept / 20_000 == pytest.approx(0.9, abs=0.015)
    assert all("woman" in text for text in draws)


def test_articles_stand_before_plain_names_alone() -> None:
    draws = _draws(HAIR, replace(_only(name=1.0), article=0.25), 20_000)
    assert set(draws) == {HAIR.name, f"a {HAIR.name}"}
    assert draws[f"a {HAIR.name}"] / 20_000 == pytest.approx(0.25, abs=0.02)
    heart = replace(HAIR, name="orange heart")
    assert set(_draws(heart, replace(_only(name=1.0), article=1.0), 50)) == {"an orange heart"}
    assert not any(text.startswith(("a ", "an ")) for text in _draws(HAIR, replace(_only(reordered=1.0), article=1.0)))


def test_two_tones_stay_together_in_their_order() -> None:
    draws = _draws(COUPLE, _only(reordered=1.0))
    assert set(draws) == {
        "woman and man holding hands",
        "woman and man holding hands, light skin tone, dark skin tone",
        "light skin tone, dark skin tone, woman and man holding hands",
    }


def test_plain_name_is_always_whole() -> None:
    assert set(_draws(HAIR, _only(name=1.0, drop_attribute=1.0))) == {HAIR.name}


def test_missing_words_fall_back_to_the_name() -> None:
    assert set(_draws(COUPLE, _only(korean=1.0, korean_keywords=0.5))) == {COUPLE.name}
    assert set(_draws(COUPLE, _only(keywords=1.0))) == {COUPLE.name}
    flag = replace(COUPLE, keywords=("flag",), name_ko="깃발: 대한민국", keywords_ko=("깃발",))
    # 'flag' alone would be the caption of 258 pictures.
    assert set(_draws(flag, _only(keywords=1.0))) == {flag.name}
    assert set(_draws(flag, _only(korean=1.0, korean_keywords=1.0))) == {flag.name_ko}


def test_keywords_are_distinct_and_at_least_two() -> None:
    for text in _draws(HAIR, _only(keywords=1.0)):
        words = text.split(", ")
        assert 2 <= len(words) == len(set(words))
        assert set(words) <= set(HAIR.keywords)


def test_same_generator_same_captions() -> None:
    first, second = np.random.default_rng(7), np.random.default_rng(7)
    assert [caption(HAIR, first) for _ in range(200)] == [caption(HAIR, second) for _ in range(200)]
    assert len({caption(HAIR, first) for _ in range(200)}) > 10


@pytest.mark.emoji
def test_captions_are_one_line_and_never_empty(emoji: list[Emoji]) -> None:
    rng = np.random.default_rng(0)
    for one in emoji:
        record = EmojiRecord.of(one)
        for _ in range(10):
            text = caption(record, rng)
            assert text == text.strip() != ""
            assert "\n" not in text
            assert ", , " not in text


@pytest.mark.parametrize(("mix", "message"), [({"name": 0.5}, "sum to 1.1"), ({"name": -0.1}, "between 0 and 1")])
def test_impossible_mix_is_refused(mix: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CaptionMix(**mix)


def test_family_weights() -> None:
    records = [replace(HAIR, family=family) for family in ("a", "b", "b", "b", "b", "c")]
    weights = family_weights(records)
    assert weights.sum() == pytest.approx(1)
    # A picture weighs 1 / sqrt(4), its family of four sqrt(4).
    np.testing.assert_allclose(weights, np.array([1, 0.5, 0.5, 0.5, 0.5, 1]) / 4)
    np.testing.assert_allclose(family_weights(records, exponent=0), np.full(6, 1 / 6))
    np.testing.assert_allclose(family_weights(records, exponent=1), np.array([1, 0.25, 0.25, 0.25, 0.25, 1]) / 3)
    with pytest.raises(UserError, match="no records"):
        family_weights([])
