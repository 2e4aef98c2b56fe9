"""`latentbrush evaluate composition` with a tiny model on a made-up world: what it writes, and what it refuses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_emoji import make_emoji_folder
from PIL import Image

from latentbrush.studies import composition

pytestmark = pytest.mark.capability("composition-accuracy")


@pytest.fixture
def measuring(model_folder: Path, tmp_path: Path) -> list[str | Path]:
    make_emoji_folder(tmp_path / "data" / "emoji")
    return ["evaluate", "composition", "--model", model_folder]


def test_figures_sheet_and_paintings_are_written(run: Callable[..., Any], measuring: list[str | Path]) -> None:
    outcome = run(*measuring, "--out", "new/report", "--seeds", "2")
    assert (outcome.code, outcome.err) == (0, "")
    for word in (
        "hard",
        "train same people",
        "95% interval",
        "attributes",
        "chance: 7.7, one of 13 ",
        "new/report/composition.json",
    ):
        assert word in outcome.out
    assert max(len(line) for line in outcome.out.splitlines()) <= 80
    assert sorted(path.name for path in Path("new/report").iterdir()) == [
        "composition.json",
        "composition.png",
        "paintings.jsonl",
    ]
    figures = json.loads(Path("new/report/composition.json").read_text(encoding="utf-8"))
    assert (figures["seeds"], figures["size"], figures["data"]) == (2, 8, "data/emoji")
    assert figures["model"] == str(measuring[-1])
    for part in ("validation", "test", "hard", "train", "train_same_people"):
        low, high = figures[part]["interval"]
        assert 0 <= low <= figures[part]["accuracy"] <= high <= 1
        assert len(figures[part]["by_seed"]) == 2
    assert 0 <= figures["ceiling"] <= 1
    lines = Path("new/report/paintings.jsonl").read_text(encoding="utf-8").splitlines()
    shares = [line["right"] for line in map(json.loads, lines) if "test" in line["parts"]]
    assert figures["test"]["accuracy"] == pytest.approx(sum(shares) / len(shares), abs=1e-4)
    painted_by = figures["painted_by"]
    unet = Path(measuring[-1]) / "unet" / "diffusion_pytorch_model.safetensors"
    sha256 = hashlib.sha256(unet.read_bytes()).hexdigest()
    assert painted_by["model"]["weights"]["unet/diffusion_pytorch_model.safetensors"] == sha256
    assert painted_by["machine"] == {"device": "cpu", "dtype": "float32", "threads": 1}
    assert set(painted_by["versions"]) == {"latentbrush", "torch"}
    with Image.open("new/report/composition.png") as sheet:
        assert sheet.width > 500


def test_how_to_paint_can_be_said(run: Callable[..., Any], measuring: list[str | Path]) -> None:
    arguments = ["--steps", "3", "--sampler", "euler", "--guidance", "1.5", "--device", "cpu"]
    assert run(*measuring, "--out", "report", "--seeds", "1", *arguments).code == 0
    figures = json.loads(Path("report/composition.json").read_text(encoding="utf-8"))
    assert (figures["steps"], figures["sampler"], figures["guidance"]) == (3, "euler", 1.5)


def test_an_earlier_evaluation_is_replaced_when_asked(run: Callable[..., Any], measuring: list[str | Path]) -> None:
    assert run(*measuring, "--out", "report", "--seeds", "1").code == 0
    assert run(*measuring, "--out", "report", "--seeds", "2", "--overwrite").code == 0
    assert json.loads(Path("report/composition.json").read_text(encoding="utf-8"))["seeds"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--out"),
        (["--out", "report", "--seeds", "0"], "0 seeds are asked for; choose from 1 to 100"),
        (["--out", "report", "--seeds", "many"], "'many' is not a whole number"),
        (["--out", "report", "--data", "absent"], "absent is not a folder"),
        (["--out", "report", "--data", "photos"], "x.png lacks text, emoji"),
        (["--out", "report", "--data", "trained"], "no picture in the split 'validation'"),
        (["--out", "report", "--model", "absent"], "model 'absent' does not exist"),
        (["--out", "report", "--steps", "0"], "steps"),
        (["--out", "report", "--sampler", "eul"], "sampler 'eul'"),
        (["--out", "report", "--guidance", "nan"], "guidance"),
        (["--out", "report", "--device", "gpu"], "device 'gpu' is not here"),
        (["--out", "photos"], "photos is not empty; choose another folder, or overwrite it (--overwrite"),
        (["--out", "photos", "--overwrite"], "photos holds no composition.json to overwrite"),
        (["--out", "photos/x.png"], "is a file or a link"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], said: str, refused: Callable[..., str], measuring: list[str | Path], tmp_path: Path
) -> None:
    for name, line in [("photos", '{"file_name": "x.png"}'), ("trained", None)]:
        (tmp_path / name).mkdir()
        Image.new("RGB", (16, 16)).save(tmp_path / name / "x.png")
        record = json.loads((tmp_path / "data/emoji/metadata.jsonl").read_text(encoding="utf-8").splitlines()[0])
        line = line or json.dumps(record | {"file_name": "x.png"})
        (tmp_path / name / "metadata.jsonl").write_text(line + "\n", encoding="utf-8")
    assert said in refused(*measuring, *arguments)


def test_names_that_no_report_could_hold_are_refused_before_painting(
    refused: Callable[..., str], measuring: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def painted(*_: Any) -> None:
        pytest.fail("it began to paint")

    monkeypatch.setattr(composition.CompositionStudy, "run", painted)
    (tmp_path / "d\udcff").symlink_to("data/emoji")
    (tmp_path / "m\udcff").symlink_to(measuring[-1])
    for arguments in (["--data", "d\udcff"], ["--model", "m\udcff"]):
        line = refused(*measuring, "--out", "report", *arguments)
        assert f"{arguments[0][2:]}: the text is not valid Unicode; write it in UTF-8" in line


def test_a_model_larger_than_the_originals_is_refused(
    refused: Callable[..., str], measuring: list[str | Path], tmp_path: Path
) -> None:
    for path in (tmp_path / "data" / "emoji").glob("*.png"):
        with Image.open(path) as image:
            image.resize((4, 4)).save(path)
    assert "the model paints 8x8 pixels, the originals in data/emoji are 4x4" in refused(*measuring, "--out", "report")


def test_an_interrupted_evaluation_leaves_nothing(
    run: Callable[..., Any], measuring: list[str | Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(composition, "contact_sheet", interrupted)  # the figures are written by then
    assert run(*measuring, "--out", "report", "--seeds", "1").code == 130
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
