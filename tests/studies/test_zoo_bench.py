"""A cell of the zoo on the made-up world: trained, measured, drawn; and gone on with where it was stopped."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_emoji import make_emoji_folder
from PIL import Image

from latentbrush.errors import UserError
from latentbrush.evaluation import frechet_distance, moments
from latentbrush.studies.zoo import ZOO
from latentbrush.studies.zoo_bench import EACH, SHEET, ZooBench
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


def test_other_pictures_are_another_study(bench: ZooBench, tmp_path: Path) -> None:
    """By what they hold, not by where they lie."""
    copy = shutil.copytree(bench.data, tmp_path / "copy")
    told = bench.settings()
    assert told["data"].startswith("sha256:")
    assert ZooBench(copy, steps=4).settings() == told
    path = next(copy.glob("**/*.png"))
    with Image.open(path) as picture:
        Image.eval(picture, lambda value: 255 - value).save(path)
    changed = ZooBench(copy, steps=4).settings()
    assert {key for key in told if changed[key] != told[key]} == {"data"}


def test_every_held_out_picture_is_kept_or_measured_anew(bench: ZooBench, tmp_path: Path) -> None:
    setting = ZOO[9]
    figures = bench.run(setting, tmp_path)["held_out"]
    kept = (tmp_path / EACH).read_bytes()
    each = bench.each(setting, tmp_path)
    assert each.psnr.shape == each.influences.shape == (5,)
    assert float(each.psnr.mean()) == pytest.approx(figures["PSNR"]["value"])
    with np.load(tmp_path / EACH) as file:
        features = torch.from_numpy(file["features"])
    held_out = bench.pictures["held_out"].pictures
    seen = bench.extractor(held_out).pooled
    assert frechet_distance(moments([features]), moments([seen])) == pytest.approx(figures["R-FD"]["value"], rel=1e-6)
    (tmp_path / EACH).unlink()  # as cells of before are
    again = bench.each(setting, tmp_path)
    assert torch.equal(again.psnr, each.psnr)
    assert torch.equal(again.influences, each.influences)
    assert (tmp_path / EACH).read_bytes() == kept
    (tmp_path / EACH).unlink()
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(UserError, match="vae"):
        bench.each(setting, tmp_path)


def test_both_sides_of_the_distance_are_the_same_pictures(
    bench: ZooBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a first stage adds to all features alike makes a distance that is sure, whichever pictures are drawn."""
    seen = torch.randn(60, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    monkeypatch.setattr(bench, "_originals", seen)
    np.savez(tmp_path / EACH, psnr=np.zeros(60), features=(seen + 1.0).numpy())
    assert bench.each(ZOO[9], tmp_path).influences.abs().max() < 1e-9
    # Twice all, and 1: the distance is |m + 1|^2 + tr S.
    np.savez(tmp_path / EACH, psnr=np.zeros(60), features=(2 * seen + 1.0).numpy())
    centred = seen - seen.mean(0)
    expected = 2 * centred @ (seen.mean(0) + 1) + centred.square().sum(1) * 60 / 59
    torch.testing.assert_close(bench.each(ZOO[9], tmp_path).influences, expected - expected.mean())


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
