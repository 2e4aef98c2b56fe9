"""`latentbrush evaluate fid` and its kin with a tiny model on a made-up world: what they print, write and refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_emoji import make_emoji_folder
from PIL import Image

from latentbrush.cli.measures import COMMANDS
from latentbrush.studies.jobs import JOBS

pytestmark = pytest.mark.capability("fid", "kid", "precision-recall", "evaluation-report")


@pytest.fixture
def emoji(tmp_path: Path) -> Path:
    make_emoji_folder(tmp_path / "data" / "emoji")
    return tmp_path / "data" / "emoji"


@pytest.fixture
def painting(model_folder: Path, emoji: Path) -> list[str | Path]:
    return ["--model", model_folder, "--data", emoji, "--steps", "1"]


def figures(path: Path) -> dict[str, float]:
    measurements = json.loads(path.read_text(encoding="utf-8"))["measurements"]
    return {name: one["value"] for found in measurements for name, one in found["figures"].items()}


def test_the_commands_are_the_jobs() -> None:
    assert [*COMMANDS, "composition"] == list(JOBS)


def test_a_model_is_measured_beside_the_data_it_paints_the_captions_of(
    run: Callable[..., Any], painting: list[str | Path], tmp_path: Path
) -> None:
    outcome = run("evaluate", "kid", *painting, "--out", tmp_path / "new")
    assert outcome.code == 0
    assert "KID" in outcome.out
    assert "features: clip emoji-clip at 32 pixels (bicubic, antialiased, float32)" in outcome.out
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["index.html", "metrics.json"]
    [found] = json.loads((tmp_path / "new" / "metrics.json").read_text(encoding="utf-8"))["measurements"]
    assert found["metric"] == "kid"
    assert found["settings"] == {"subset": 7, "subsets": 100, "seed": 0}  # half of fourteen
    assert found["painted"]["steps"] == 1
    assert found["pictures"]["count"] == found["data"]["count"]
    assert found["pictures"]["size"] == [8, 8]
    assert len(found["extractor"]["digest"]) == len("sha256:") + 64


def test_the_same_pictures_are_at_no_distance(run: Callable[..., Any], emoji: Path, tmp_path: Path) -> None:
    outcome = run("evaluate", "fid", "--images", emoji, "--data", emoji, "--out", tmp_path / "new")
    assert outcome.code == 0
    assert figures(tmp_path / "new" / "metrics.json")["FD"] == pytest.approx(0, abs=1e-6)


def test_a_batch_changes_nothing_beyond_roundings(
    run: Callable[..., Any], painting: list[str | Path], tmp_path: Path
) -> None:
    found = []
    for batch in ("3", "64"):
        assert run("evaluate", "fid", *painting, "--batch-size", batch, "--out", tmp_path / batch).code == 0
        found.append(figures(tmp_path / batch / "metrics.json")["FD"])
    assert found[0] == pytest.approx(found[1], abs=1e-3)  # a pixel may round by 1/255


def test_all_that_can_be_measured_is_and_the_rest_is_named(
    run: Callable[..., Any], painting: list[str | Path], tmp_path: Path
) -> None:
    outcome = run("evaluate", "all", *painting, "--bits-steps", "2", "--neighbours", "1", "--out", tmp_path / "new")
    assert outcome.code == 0
    assert "left out: is: IS needs classes" in outcome.err
    assert "left out: reconstruction: SSIM needs pictures of at least 11 pixels" in outcome.err
    found = figures(tmp_path / "new" / "metrics.json")
    assert {"FD", "KID", "CMMD", "precision", "recall", "CLIP score", "bits per dimension"} <= set(found)
    assert 0 <= found["composition accuracy, test"] <= 1
    page = (tmp_path / "new" / "index.html").read_text(encoding="utf-8")
    assert "What the bits buy" in page
    assert page.count("data:image/png;base64,") > 10


def test_a_first_stage_is_measured_by_what_it_gives_back(
    run: Callable[..., Any], painting: list[str | Path], tmp_path: Path
) -> None:
    outcome = run("evaluate", "reconstruction", *painting[:4], "--size", "16", "--out", tmp_path / "new")
    assert outcome.code == 0
    found = figures(tmp_path / "new" / "metrics.json")
    assert set(found) == {"R-FD", "PSNR", "PSIM", "SSIM"}
    assert 0 < found["PSNR"] < 30
    [measured] = json.loads((tmp_path / "new" / "metrics.json").read_text(encoding="utf-8"))["measurements"]
    assert measured["settings"]["PSIM"] == "distance of clip emoji-clip's tokens"


def test_evaluations_are_compared_if_they_are_alike(run: Callable[..., Any], emoji: Path, tmp_path: Path) -> None:
    for name, *options in (("a",), ("b",), ("c", "--count", "5")):
        assert run("evaluate", "fid", "--images", emoji, "--data", emoji, "--out", tmp_path / name, *options).code == 0
    a, b, c = (tmp_path / name / "metrics.json" for name in "abc")
    outcome = run("evaluate", "compare", a, b)
    assert outcome.code == 0
    assert "FD" in outcome.out
    outcome = run("evaluate", "compare", a, c)
    assert outcome.code == 2
    assert "the number of pictures of" in outcome.err
    assert "measure both alike to compare" in outcome.err
    assert run("evaluate", "compare", a).code == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "one of --model and --images is needed"),
        (["--images", "data/emoji", "--model", "emoji"], "--model and --images are both given"),
        (["--model", "emoji"], "--data is needed with --model"),
        (["--images", "data/emoji"], "FID compares with real pictures; give a folder of them with --data"),
        (["--images", "data/emoji", "--data", "none"], "none is not a folder"),
        (["--images", "data/emoji", "--data", "data/emoji", "--count", "0"], "--count 0 must be at least 1"),
        (
            ["--images", "data/emoji", "--data", "data/emoji", "--count", "1"],
            "1 picture is too few to measure; give at least 2",
        ),
        (["--images", "data/emoji", "--data", "data/emoji", "--seed", "-1"], "--seed -1 must be from 0"),
        (["--images", "data/emoji", "--data", "data/emoji", "--extractor", "nope"], "nope"),
        (["--images", "data/emoji", "--data", "data/emoji", "--split", "nope"], "no split 'nope'"),
        (["--images", "data/emoji", "--data", "data/small"], "bring both to one size with --size"),
        (["--images", "data/none", "--data", "data/emoji"], "data/none is not a folder"),
        (["--images", "data/empty", "--data", "data/emoji"], "data/empty holds no pictures"),
        (["--images", "data/emoji", "--data", "data/emoji", "--out", "data"], "is not empty"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_line(
    run: Callable[..., Any], emoji: Path, options: list[str], told: str
) -> None:
    Path("data/small").mkdir()
    Image.new("RGB", (8, 8)).save("data/small/a.png")
    Image.new("RGB", (8, 8), "red").save("data/small/b.png")
    Path("data/empty").mkdir()
    outcome = run("evaluate", "fid", *options)
    assert outcome.code == 2
    assert told in outcome.err
    assert outcome.err.count("\n") == 1


def test_one_picture_many_times_is_warned_of(run: Callable[..., Any], emoji: Path) -> None:
    original = next((emoji).glob("**/*.png"))
    Path("copies").mkdir()
    for i in range(10):
        shutil.copy(original, f"copies/{i}.png")
    outcome = run("evaluate", "prc", "--images", "copies", "--data", emoji, "--neighbours", "1")
    assert outcome.code == 0
    assert "copies: only 1 of 10 pictures differ from one another" in outcome.err


def test_statistics_stand_for_the_pictures_they_were_taken_of(
    run: Callable[..., Any], emoji: Path, tmp_path: Path
) -> None:
    beside = ["--images", emoji, "--count", "9"]
    assert run("evaluate", "statistics", emoji, "real.npz", "--features").code == 0
    for name in ("fid", "kid"):
        assert run("evaluate", name, *beside, "--data", emoji, "--out", f"{name}-pictures").code == 0
        outcome = run("evaluate", name, *beside, "--data", "real.npz", "--out", f"{name}-statistics")
        assert outcome.code == 0
        first, second = (figures(tmp_path / f"{name}-{kind}" / "metrics.json") for kind in ("pictures", "statistics"))
        assert first == pytest.approx(second, abs=1e-6)
    assert run("evaluate", "statistics", emoji, "real.npz").code == 2  # it is there
    assert run("evaluate", "statistics", emoji, "bare.npz").code == 0
    outcome = run("evaluate", "kid", *beside, "--data", "bare.npz")
    assert outcome.code == 2
    assert "bare.npz holds no feats" in outcome.err


def test_statistics_of_others_are_taken_with_a_warning(run: Callable[..., Any], emoji: Path) -> None:
    np.savez("adm.npz", mu=np.zeros(128), sigma=np.eye(128))
    outcome = run("evaluate", "fid", "--images", emoji, "--data", "adm.npz")
    assert outcome.code == 0
    assert "adm.npz does not say what took its features; make sure that it was clip emoji-clip" in outcome.err
    np.savez("wide.npz", mu=np.zeros(64), sigma=np.eye(64))
    outcome = run("evaluate", "fid", "--images", emoji, "--data", "wide.npz")
    assert outcome.code == 2
    assert "features of 128 and of 64 numbers have no distance" in outcome.err


def test_features_alone_are_statistics_enough(run: Callable[..., Any], emoji: Path, tmp_path: Path) -> None:
    """As clean-fid keeps them for KID; nor does what one metric lacks cost the others their page."""
    assert run("evaluate", "statistics", emoji, "whole.npz", "--features").code == 0
    whole = np.load("whole.npz")
    np.savez("feats.npz", feats=whole["feats"])
    np.savez("places.npz", mu_s=np.zeros(4), sigma_s=np.eye(4))
    found = []
    for name in ("whole", "feats"):
        options = ["--images", emoji, "--count", "9", "--data", f"{name}.npz", "--out", name]
        assert run("evaluate", "fid", *options).code == 0
        found.append(figures(tmp_path / name / "metrics.json")["FD"])
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    outcome = run("evaluate", "all", "--images", emoji, "--data", "places.npz", "--out", "all")
    assert outcome.code == 0
    assert "left out: fid: places.npz holds no mu and sigma" in outcome.err
    assert "CLIP score" in figures(tmp_path / "all" / "metrics.json")


def test_a_first_stage_needs_no_captions_and_its_record_names_its_files(
    run: Callable[..., Any], model_folder: Path, emoji: Path, tmp_path: Path
) -> None:
    (emoji / "metadata.jsonl").unlink()
    outcome = run(
        *("evaluate", "reconstruction", "--model", model_folder, "--data", emoji),
        *("--size", "16", "--count", "5", "--out", "new"),
    )
    assert outcome.code == 0
    [found] = json.loads((tmp_path / "new" / "metrics.json").read_text(encoding="utf-8"))["measurements"]
    assert found["pictures"]["count"] == found["data"]["count"] == 5
    assert "vae/diffusion_pytorch_model.safetensors" in found["painted"]["model"]["weights"]


def test_without_intervals_no_features_are_kept(run: Callable[..., Any], emoji: Path, tmp_path: Path) -> None:
    beside = ["--images", emoji, "--count", "9", "--data", emoji]
    assert run("evaluate", "fid", *beside, "--out", "with").code == 0
    assert run("evaluate", "fid", *beside, "--no-intervals", "--out", "without").code == 0
    first, second = (
        json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8"))["measurements"][0]["figures"]["FD"]
        for name in ("with", "without")
    )
    assert first["value"] == pytest.approx(second["value"], abs=1e-6)
    assert (first["interval"] is None, second["interval"] is None) == (False, True)
