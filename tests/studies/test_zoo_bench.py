"""A cell of the zoo on the made-up world: trained, measured, drawn; and gone on with where it was stopped."""

import json
from pathlib import Path

import pytest
from made_up_emoji import make_emoji_folder
from PIL import Image

from latentbrush.studies.zoo import ZOO
from latentbrush.studies.zoo_bench import SHEET, ZooBench
from latentbrush.training import TrainingProgress

pytestmark = pytest.mark.capability("studies")


def test_its_cells_are_the_study_s(bench: ZooBench, tmp_path: Path) -> None:
    cells = bench.cells()
    assert [cell.name for cell in cells] == [setting.name for setting in ZOO]
    assert cells[5].what == "f = 4, VQ, 256 codes for 8192, 3x8x8, no attention"
    assert cells[-1].what == "f = 2, KL, 2x16x16"
    assert all(cell.work > 0 for cell in cells)
    assert bench.rate() > 0
    cell = bench.cells(ZOO[1:2])[0]
    assert cell.run(tmp_path)["setting"] == cell.name == ZOO[1].name


class StoppedError(Exception):
    pass


def stop(progress: TrainingProgress) -> None:
    if progress.step == 3:
        raise StoppedError


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ZooBench:
    return ZooBench(make_emoji_folder(tmp_path_factory.mktemp("world") / "emoji"), steps=4)


def test_as_many_are_measured_of_either_part(bench: ZooBench) -> None:
    assert {part: held.pictures.shape for part, held in bench.pictures.items()} == {
        "held_out": (5, 3, 32, 32),
        "train": (5, 3, 32, 32),
    }
    settings = json.loads(json.dumps(bench.settings(), allow_nan=False))
    assert (settings["steps"], settings["held_out"]) == (4, 5)
    assert settings["rfid_by"]["name"] == "clip emoji-clip"
    assert "emoji-clip" in settings["psim_by"]["name"]


@pytest.mark.parametrize("setting", [ZOO[0], ZOO[9]], ids=lambda setting: setting.name)
def test_a_stopped_cell_ends_as_one_that_was_not(setting: object, bench: ZooBench, tmp_path: Path) -> None:
    """f = 32, whose networks are the deepest."""
    chosen = next(s for s in ZOO if s is setting)
    whole = bench.run(chosen, tmp_path / "whole")
    with pytest.raises(StoppedError):
        bench.run(chosen, tmp_path / "parts", stop)
    assert not (tmp_path / "parts" / SHEET).exists()
    assert bench.run(chosen, tmp_path / "parts") == whole
    assert (tmp_path / "parts" / SHEET).read_bytes() == (tmp_path / "whole" / SHEET).read_bytes()
    json.dumps(whole, allow_nan=False)
    assert whole["setting"] == chosen.name
    assert whole["latent"] == [chosen.channels, 1, 1]
    assert whole["held_out"].keys() == whole["train"].keys()
    assert ("perplexity" in whole["train"]) == (chosen.regulariser == "vq")
    assert whole["training_tflop"] == pytest.approx(bench.work(chosen))
    with Image.open(tmp_path / "whole" / SHEET) as sheet:
        assert sheet.width == 8 * 100 + 4
