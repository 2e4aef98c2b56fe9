"""The zoo's page: its table holds what was measured, its verdicts follow from it, and it can be stopped half way."""

from pathlib import Path

import pytest
from PIL import Image

from latentbrush.errors import UserError
from latentbrush.studies.zoo import ZOO, settings_named
from latentbrush.studies.zoo_bench import SHEET
from latentbrush.studies.zoo_study import ZooStudy
from latentbrush.studies.zoo_trends import trends

pytestmark = pytest.mark.capability("studies")


def measured(setting, psnr=None, rfid=None):
    """As `ZooBench.run` returns it; with the paper's own figures unless told others."""
    values = {
        "PSNR": setting.paper.psnr if psnr is None else psnr,
        "R-FD": setting.paper.rfid if rfid is None else rfid,
        "PSIM": setting.paper.psim,
        "SSIM": setting.paper.ssim,
    }
    held_out = {name: {"value": value, "interval": None} for name, value in values.items()}
    if setting.codes is not None:
        held_out["codes_used"] = 0.5
    return {"held_out": held_out, "parameters": 1_000_000, "training_tflop": 2.0}


class Bench:
    """Without any training."""

    def settings(self):
        return {"steps": 3, "seed": 0, "held_out": 9, "size": 32, "rfid_by": {"name": "a"}, "psim_by": {"name": "b"}}

    def cells(self, settings):
        return list(settings)

    def rate(self):
        return 1.0


def test_every_order_of_the_papers_table_holds_in_the_papers_table():
    found = trends([(setting, measured(setting)) for setting in ZOO])
    assert len(found) > 20
    assert all(trend.holds for trend in found)


def test_an_order_that_is_turned_round_is_said_to_fail():
    few, many = settings_named("vq-f4-n256-c3,vq-f4-n8192-c3")
    names = {few.name: few, many.name: many}
    more, less = names["vq-f4-n8192-c3"], names["vq-f4-n256-c3"]
    [by_psnr, by_rfid] = trends([(more, measured(more, psnr=20.0)), (less, measured(less, psnr=21.0))])
    assert by_psnr.claim == "codes: PSNR of vq-f4-n8192-c3 lies above vq-f4-n256-c3's"
    assert (by_psnr.paper, by_psnr.here, by_psnr.holds) == ("27.43 and 26.43", "20 and 21", False)
    assert by_rfid.holds  # the paper's own: more codes, yet a larger R-FID


def test_only_what_differs_in_one_thing_is_compared():
    found = trends([(setting, measured(setting)) for setting in settings_named("kl-f2-c2,vq-f8-n256-c4")])
    assert found == []


def test_required_factors_come_first_and_none_is_left_out():
    cells = ZooStudy(Bench()).cells()
    assert [(one.factor, one.regulariser) for one in cells[:8]] == [
        (f, r) for f in (2, 4, 8, 16) for r in ("vq", "kl")
    ]  # fmt: skip
    assert set(cells) == set(ZOO)
    assert len(cells) == 16


def test_the_page_holds_table_verdicts_plots_and_sheets(tmp_path: Path):
    chosen = settings_named("kl-f2-c2,kl-f4-c3,vq-f2-n2048-c2")
    results = {setting.name: measured(setting, psnr=20.0 + setting.factor) for setting in chosen}
    for name in results:
        (tmp_path / "cells" / name).mkdir(parents=True)
        Image.new("RGB", (16, 4)).save(tmp_path / "cells" / name / SHEET)
    found = ZooStudy(Bench(), chosen).found(results, tmp_path)
    html = found.page.html()
    assert set(found.plots) == {"distortion", "trend"}
    assert html.count("data:image/png;base64,") == 2 + 3
    assert "128 (2048)" in html  # codes here, and the paper's
    assert ">22</td>" in html  # PSNR measured
    assert ">32.47</td>" in html  # and the paper's
    assert "PSNR of kl-f4-c3 lies above" not in html
    assert "NO" in html  # PSNR rises with f here, as in no paper


def test_a_page_of_nothing_yet_is_a_page(tmp_path: Path):
    assert "0 of 16" in ZooStudy(Bench()).found({}, tmp_path).page.html()


def test_a_setting_that_is_none_is_refused():
    with pytest.raises(UserError, match="'kl-f3' is no setting; choose of kl-f16-c16"):
        settings_named("kl-f2-c2,kl-f3")
