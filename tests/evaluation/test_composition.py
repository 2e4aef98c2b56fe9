"""Composition accuracy on made-up records: who is asked for, what counts as right, and the figures."""

from __future__ import annotations

import pytest
import torch
from made_up_emoji import made_up_record
from torch import Tensor

from latentbrush.data.emoji import EmojiRecord
from latentbrush.errors import UserError
from latentbrush.evaluation import Originals, composition_parts, score_part
from latentbrush.evaluation.composition import Judgement

LIGHT, DARK = "light skin tone", "dark skin tone"
RECORDS = [
    made_up_record("man cook", (LIGHT,)),  # 0
    made_up_record("man cook", (DARK,), "validation"),  # 1
    made_up_record("man pilot", (LIGHT,), "test"),  # 2
    made_up_record("woman pilot", (DARK,), "test"),  # 3: hard
    made_up_record("flag: Norway", ()),  # 4
    made_up_record("flag: Bouvet Island", ()),  # 5: looks as 4
    made_up_record("man pilot", (DARK,)),  # 6
    made_up_record("man pilot", ()),  # 7
]
VALUES = [10, 40, 70, 100, 130, 130, 190, 220]


def flat(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)


@pytest.fixture
def originals() -> Originals:
    return Originals(RECORDS, flat(*VALUES))


def test_parts_of_the_made_up_world() -> None:
    parts = composition_parts(RECORDS)
    assert parts == {
        "validation": [1],
        "test": [2, 3],
        "hard": [3],
        "train_same_people": [6],  # of the people in test only the man pilot was trained, once with an attribute
        "train": [0, 4, 5, 6, 7],
    }


def test_training_is_sampled_evenly_and_always_alike() -> None:
    many = [made_up_record(f"thing {i}", ()) for i in range(250)]
    parts = composition_parts([*RECORDS, *many])
    assert len(parts["train"]) == 100
    assert parts["train"][:5] == [0, 5, 7, 9, 11]
    assert parts == composition_parts([*RECORDS, *many])


def test_a_part_without_pictures_is_left_out() -> None:
    assert "hard" not in composition_parts([record for record in RECORDS if not record.hard])


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_world_without_held_out_pictures_is_refused(split: str) -> None:
    with pytest.raises(UserError, match=f"no picture in the split '{split}'; build"):
        composition_parts([record for record in RECORDS if record.split != split])


def test_identical_pictures_are_one(originals: Originals) -> None:
    assert originals.group == [0, 1, 2, 3, 4, 4, 5, 6]
    assert originals.members[4] == [4, 5]
    assert originals.distinct[:, 0, 0, 0].tolist() == [10, 40, 70, 100, 130, 190, 220]
    assert originals.nearest(flat(0, 140, 205, 204)).tolist() == [0, 4, 5, 5]  # of two equally near, the first


@pytest.mark.parametrize(
    ("wanted", "group", "expected"),
    [
        (2, 2, Judgement(right=True, base=True, attributes=True)),
        (2, 5, Judgement(right=False, base=True, attributes=False)),  # the pilot, in another tone
        (2, 0, Judgement(right=False, base=False, attributes=True)),  # the tone, on a cook
        (2, 3, Judgement(right=False, base=False, attributes=False)),
        (2, 6, Judgement(right=False, base=True, attributes=False)),  # no tone is another tone
        (7, 4, Judgement(right=False, base=False, attributes=True)),  # no tone asked for, none there
        (4, 4, Judgement(right=True, base=True, attributes=True)),
        (5, 4, Judgement(right=True, base=True, attributes=True)),  # by its other name, too
    ],
)
def test_base_and_attributes_are_told_apart(originals: Originals, wanted: int, group: int, expected: Judgement) -> None:
    assert originals.judge(wanted, group) == expected


def test_chance_is_the_share_of_groups_that_would_do(originals: Originals) -> None:
    for wanted in range(len(RECORDS)):
        answers = [originals.judge(wanted, group) for group in range(7)]
        shares = [sum(answer[k] for answer in answers) / 7 for k in range(3)]
        assert originals.chance(wanted) == pytest.approx(shares)


def test_figures_of_a_part(originals: Originals) -> None:
    # Two captions, four seeds: the pilot right twice and once in another tone, the other always a flag.
    nearest = torch.tensor([[2, 2, 5, 1], [4, 4, 4, 4]])
    score = score_part(originals, [2, 3], nearest, torch.tensor([2, 0]))
    assert score.emoji == 2
    assert score.right.accuracy == pytest.approx(2 / 8)
    assert score.base.accuracy == pytest.approx(3 / 8)
    assert score.attributes.accuracy == pytest.approx(2 / 8)
    assert score.by_seed == [0.5, 0.5, 0.0, 0.0]
    assert score.ceiling == 0.5
    assert score.right.chance == pytest.approx(1 / 7)
    assert score.base.chance == pytest.approx((3 / 7 + 1 / 7) / 2)
    low, high = score.right.interval
    assert 0 <= low < 0.25 < high <= 1


def test_intervals_take_families_whole() -> None:
    """Six emoji of one family that stand and fall together are no six witnesses."""
    together = [made_up_record(f"{who} pilot", ()) for who in "abcdef"] + [made_up_record("g cook", ())]
    apart = [made_up_record(f"thing {who}", ()) for who in "abcdefg"]
    nearest = torch.arange(7)[:, None].repeat(1, 2)
    nearest[6] = 0  # the cook is wrong

    def width(records: list[EmojiRecord]) -> float:
        score = score_part(Originals(records, flat(*range(7))), range(7), nearest, torch.arange(7))
        low, high = score.right.interval
        return high - low

    assert width(together) > width(apart) + 0.1


def test_records_and_pictures_must_match() -> None:
    with pytest.raises(ValueError, match="8 records and 2 pictures"):
        Originals(RECORDS, flat(1, 2))
