"""What to say of an emoji in training: names, reordered attributes, keywords and Korean, drawn at random.

Captions are the main lever for composition: with skin tone and hair as phrases of their own, in any order,
the text encoder learns that they combine with everybody.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentbrush.data.emoji.record import EmojiRecord
from latentbrush.errors import UserError

__all__ = ["CaptionMix", "caption", "family_weights"]


@dataclass(frozen=True)
class CaptionMix:
    """How often each kind of caption is drawn; the four kinds sum to 1.

    `korean_keywords` is the share of keywords among the Korean captions, `drop_attribute` the probability
    with which the reordered kind leaves out an attribute, `article` that with which a plain name is given one
    ("a red heart"), as people write prompts.
    """

    name: float = 0.4
    reordered: float = 0.3
    keywords: float = 0.1
    korean: float = 0.2
    korean_keywords: float = 0.25
    drop_attribute: float = 0.1
    article: float = 0.0

    def __post_init__(self) -> None:
        for field, value in vars(self).items():
            if not 0 <= value <= 1:
                raise UserError(f"caption mix: {field} is {value}, but must lie between 0 and 1")
        total = self.name + self.reordered + self.keywords + self.korean
        if abs(total - 1) > 1e-6:
            raise UserError(f"caption mix: name, reordered, keywords and korean sum to {total:g}: make it 1")


DEFAULT_MIX = CaptionMix()


def caption(record: EmojiRecord, rng: np.random.Generator, mix: CaptionMix = DEFAULT_MIX) -> str:
    """One caption, never empty; only `rng` decides, so the same generator says the same.

    The plain name is always whole, but for an article before it. Where CLDR has too few words, the English name
    stands in.
    """
    draw = rng.random()
    if draw < mix.name:
        return _with_article(record.name) if rng.random() < mix.article else record.name
    if draw < mix.name + mix.reordered:
        return _reordered(record, rng, mix.drop_attribute)
    if draw < mix.name + mix.reordered + mix.keywords:
        return _keywords(record.keywords, rng) or record.name
    if rng.random() < mix.korean_keywords:
        return _keywords(record.keywords_ko, rng) or record.name_ko or record.name
    return record.name_ko or record.name


def family_weights(records: Sequence[EmojiRecord], exponent: float = 0.5) -> NDArray[np.float64]:
    """Probabilities (N,) of drawing each record, in proportion to 1 / (size of its family) ** exponent.

    Nearly half the pictures are skin tone variants. With exponent 0 all pictures are equally likely, with 1
    all families; between the two, 0.5 gives a family of n pictures sqrt(n) times the weight of a lone one.
    Sizes are counted among the records given.
    """
    if not records:
        raise UserError("no records to weigh: give at least one")
    sizes = Counter(record.family for record in records)
    weights = np.array([sizes[record.family] for record in records], dtype=np.float64) ** -exponent
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _with_article(name: str) -> str:
    """'a red heart', 'an orange heart'; by the letter, not the sound."""
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _reordered(record: EmojiRecord, rng: np.random.Generator, drop: float) -> str:
    """Base and attributes in a random order: 'medium skin tone, red hair, woman'."""
    phrases = [record.base, *(phrase for phrase in _phrases(record.attributes) if rng.random() >= drop)]
    return ", ".join(phrases[index] for index in rng.permutation(len(phrases)))


def _phrases(attributes: Sequence[str]) -> list[str]:
    """Attributes as phrases that may move: two tones stay one phrase, for the left person has the first."""
    tones = [phrase for phrase in attributes if phrase.endswith(" skin tone")]
    others = [phrase for phrase in attributes if phrase not in tones]
    return [", ".join(tones), *others] if tones else others


def _keywords(words: Sequence[str], rng: np.random.Generator) -> str | None:
    """Two or more keywords in a random order; None where there are fewer, for one ('flag') is too little."""
    if len(words) < 2:
        return None
    count = int(rng.integers(2, len(words) + 1))
    return ", ".join(words[index] for index in rng.permutation(len(words))[:count])
