"""Measurements say all that they depend on, and unlike ones are not compared."""

import json

import pytest

from latentbrush.errors import UserError
from latentbrush.evaluation.measurement import Measurement, check_alike, compared, read_measurements

pytestmark = pytest.mark.capability("fid")


def a_measurement(**changes) -> Measurement:
    pictures = {"name": "p", "count": 10, "distinct": 10, "size": (8, 8), "digest": "1"}
    whole = {
        "metric": "kid",
        "figures": {"KID": {"value": 1.0, "lower_is_better": True}},
        "pictures": pictures,
        "data": {**pictures, "name": "d"},
        "extractor": {"name": "e", "digest": "sha256:0", "side": 8, "resize": "none", "precision": "float32"},
        "settings": {"seed": 0, "subset": 5},
        "painted": {"seed": 0},
        "versions": {"torch": "2"},
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = whole
        for parent in parents:
            place[parent] = dict(place[parent])
            place = place[parent]
        place[last] = value
    return Measurement.model_validate(whole)


def test_like_measurements_may_be_compared():
    other = a_measurement(
        pictures__name="q", pictures__digest="2", figures={"KID": {"value": 2, "lower_is_better": True}}
    )
    check_alike([("a", a_measurement()), ("b", other)])
    check_alike([("a", a_measurement()), ("b", a_measurement(painted=None))])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"metric": "fid"}, "the metric of a and b differ: 'kid' and 'fid'"),
        ({"extractor__digest": "sha256:1"}, "the extractor's weights"),
        ({"extractor__resize": "bilinear"}, "the extractor's resize filter"),
        ({"extractor__precision": "float16"}, "the extractor's precision"),
        ({"pictures__count": 11}, "the number of pictures of a and b differ: 10 and 11"),
        ({"pictures__size": (4, 4)}, "the pictures' size"),
        ({"data__digest": "9"}, "the data"),
        ({"data": None}, "the data"),
        ({"settings__subset": 6}, "the settings"),
        ({"painted__seed": 1}, "the seed of the paintings"),
    ],
)
def test_unlike_measurements_are_refused_with_what_differs(change, told):
    with pytest.raises(UserError, match=told):
        check_alike([("a", a_measurement()), ("b", a_measurement(**change))])


def test_measurements_are_read_back(tmp_path):
    path, one = tmp_path / "metrics.json", a_measurement()
    path.write_text(json.dumps({"measurements": [one.model_dump(mode="json")]}), encoding="utf-8")
    assert read_measurements(path) == [one]


def test_evaluations_stand_beside_each_other_by_what_they_have_in_common():
    other = a_measurement(figures={"KID": {"value": 2.5, "lower_is_better": True}})
    fid = a_measurement(metric="fid")
    assert compared([("a", [fid, a_measurement()]), ("b", [other])]) == [["KID", "1", "2.5", "lower"]]
    with pytest.raises(UserError, match=r"no metric in common \(a has fid; b has kid\)"):
        compared([("a", [fid]), ("b", [other])])


@pytest.mark.parametrize("text", ["{}", '{"measurements": 1}', '{"measurements": [{}]}', "[]", "no"])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "metrics.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"metrics\.json"):
        read_measurements(path)
