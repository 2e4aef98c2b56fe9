"""`latentbrush diffuse` with a tiny model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytestmark = pytest.mark.capability("forward-process")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    Image.linear_gradient("L").resize((24, 16)).convert("RGB").save(path)
    return path


def test_a_sheet_and_a_table(run: Callable[..., Any], model_folder: Path, photo: Path, tmp_path: Path) -> None:
    outcome = run("diffuse", photo, "--model", model_folder, "--levels", "4", "--prompt", "a red heart")
    assert (outcome.code, outcome.err) == (0, "")
    header, _, *levels, path = outcome.out.splitlines()
    assert header.split() == ["t", "alpha", "sigma", "noise", "RMSE", "x0", "RMSE", "output", "MSE"]
    assert [line.split()[0] for line in levels] == ["0", "333", "666", "999"]
    for line in levels:
        assert all(float(number) >= 0 for number in line.split())
        assert len(line.split()) == 6
    assert path == "out/photo-diffused.png"
    with Image.open(tmp_path / path) as image:
        assert image.format == "PNG"
        assert image.height > 4 * 128
        assert image.width > 4 * 128


def test_seed_and_prompt_choose_the_sheet(run: Callable[..., Any], model_folder: Path, photo: Path) -> None:
    sheets = []
    for arguments in ([], [], ["--seed", "1"], ["--prompt", "a red heart"]):
        command = ["diffuse", photo, "--model", model_folder, "--levels", "2", "--out", "new/x.png", "--overwrite"]
        assert run(*command, *arguments).code == 0
        sheets.append(Path("new/x.png").read_bytes())
    assert sheets[0] == sheets[1]
    assert len(set(sheets)) == 3


def test_another_meaning_of_the_output(run: Callable[..., Any], model_folder: Path, photo: Path) -> None:
    """Whatever the model says; at pure noise, the network's output is all there is of x0."""
    lasts = {}
    for i, prediction in enumerate((None, "epsilon", "v_prediction", "sample")):
        more = [] if prediction is None else ["--prediction", prediction]
        outcome = run("diffuse", photo, "--model", model_folder, "--levels", "2", "--out", f"{i}.png", *more)
        assert outcome.code == 0, outcome.err
        lasts[prediction] = outcome.out.splitlines()[-2]
    assert lasts[None] == lasts["epsilon"]
    assert len({lasts["epsilon"], lasts["v_prediction"], lasts["sample"]}) == 3


def test_a_long_prompt_is_told(run: Callable[..., Any], model_folder: Path, photo: Path) -> None:
    arguments = ["--model", model_folder, "--levels", "2", "--prompt", "a red heart 1 2 3 4 5 6 7 8 9 10 11 12 13"]
    outcome = run("diffuse", photo, *arguments)
    assert outcome.code == 0
    assert "the prompt is too long; left out: '" in outcome.err


BAD = {
    "levels 0, and a long prompt": (["--levels", "0", "--prompt", "a red heart " * 9], "choose 2 to 16"),
    "no such prediction": (["--prediction", "velocity"], "'velocity'"),
    "no such device": (["--device", "gpu"], "device 'gpu' is not here; choose one of auto, cpu"),
    "levels 1": (["--levels", "1"], "1 levels are asked for; choose 2 to 16"),
    "levels 0": (["--levels", "0"], "choose 2 to 16"),
    "levels 17": (["--levels", "17"], "choose 2 to 16"),
    "levels, words": (["--levels", "many"], "'many' is not a whole number"),
    "seed -1": (["--seed", "-1"], "seed"),
    "seed, words": (["--seed", "x"], "'x' is not a whole number"),
    "prompt, no Unicode": (["--prompt", "\udcff"], r"\udcff"),
    "model, absent": (["--model", "no/model"], "'no/model' does not exist"),
    "out, exists": (["--out", "there.png"], "there.png exists"),
    "out, a jpg": (["--out", "x.jpg"], "x.jpg"),
    "out, a folder": (["--out", "folder"], "folder is a folder"),
    "out, below a file": (["--out", "there.png/x.png"], "there.png"),
}


@pytest.mark.parametrize(("arguments", "said"), BAD.values(), ids=BAD.keys())
def test_bad_values(
    arguments: list[str], said: str, refused: Callable[..., str], model_folder: Path, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "there.png").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    assert said in refused("diffuse", photo, "--model", model_folder, *arguments)


def test_files_that_are_no_picture(refused: Callable[..., str], model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    assert "absent.png does not exist" in refused("diffuse", "absent.png", "--model", model_folder)
    assert "notes.txt cannot be read" in refused("diffuse", "notes.txt", "--model", model_folder)
    assert "'image'" in refused("diffuse", "--model", model_folder)
