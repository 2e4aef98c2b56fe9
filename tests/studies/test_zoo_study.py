"""The zoo's page: its table holds what was measured, its verdicts follow from it, and it can be stopped half way."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from latentbrush.errors import UserError
from latentbrush.studies.zoo import ZOO, settings_named
from latentbrush.studies.zoo_bench import SHEET
from latentbrush.studies.zoo_study import ZooStudy
from latentbrush.studies.zoo_trends import NOISE, Each, Row, trends

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


HARD = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
"""How much easier than others a picture is for all first stages."""


def row(setting, seed=0, noise=0.01, **figures):
    """Of 50 pictures, whose PSNR lies about its mean by what they share, and by `noise` of their own."""
    found = measured(setting, **figures)
    own = torch.randn(2, 50, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64) * noise
    values, moved = HARD + own[0], HARD + own[1]
    values += found["held_out"]["PSNR"]["value"] - values.mean()
    return Row(setting, found, Each(values, moved - moved.mean()))


class Bench:
    """Without any training."""

    def each(self, setting, folder):
        return row(setting, psnr=20.0 + setting.factor).each

    def settings(self):
        return {"steps": 3, "seed": 0, "held_out": 9, "size": 32, "rfid_by": {"name": "a"}, "psim_by": {"name": "b"}}

    def cells(self, settings):
        return list(settings)

    def rate(self):
        return 1.0


def test_every_order_of_the_papers_table_holds_in_the_papers_table():
    found = trends([row(setting, seed) for seed, setting in enumerate(ZOO)])
    assert all(trend.verdict == "yes" for trend in found)
    assert {trend.claim.split(":")[0] for trend in found} == {"f", "regulariser", "codes", "channels", "attention"}
    for regulariser in ("kl", "vq"):
        steps = [
            trend.claim for trend in found if trend.claim.startswith("f: PSNR") and trend.claim.count(regulariser) == 2
        ]
        for factor in (2, 4, 8, 16):
            assert any(f"-f{factor}-" in claim and f"-f{2 * factor}-" in claim for claim in steps)
    # Each f has its pair of regularisers; KL has no codes to differ in.
    pairs = [trend.claim for trend in found if trend.claim.startswith("regulariser: PSNR")]
    for factor in (2, 4, 8, 16, 32):
        assert any(claim.count(f"-f{factor}-") == 2 for claim in pairs)
    assert "regulariser: PSNR of vq-f8-n256-c4 lies below kl-f8-c4's" in pairs
    assert len({trend.claim for trend in found}) == len(found)


def test_the_main_setting_of_a_factor_has_most_channels_then_codes():
    found = trends([row(setting, seed) for seed, setting in enumerate(ZOO)])
    steps = {trend.claim for trend in found if trend.claim.startswith("f: PSNR")}
    assert "f: PSNR of kl-f32-c64 lies below kl-f16-c16's" in steps
    assert "f: PSNR of vq-f4-n8192-c3 lies below vq-f2-n2048-c2's" in steps
    assert not any("noattn" in claim or "n64" in claim or "kl-f16-c8" in claim for claim in steps)


def test_an_order_that_is_turned_round_is_said_to_fail():
    few, many = settings_named("vq-f4-n256-c3,vq-f4-n8192-c3")
    names = {few.name: few, many.name: many}
    more, less = names["vq-f4-n8192-c3"], names["vq-f4-n256-c3"]
    [by_psnr, by_rfid] = trends([row(more, 1, psnr=20.0), row(less, 2, psnr=21.0)])
    assert by_psnr.claim == "codes: PSNR of vq-f4-n8192-c3 lies above vq-f4-n256-c3's"
    assert (by_psnr.paper, by_psnr.here, by_psnr.verdict) == ("27.43 and 26.43", "20 and 21", "NO")
    assert by_psnr.apart.startswith("-1 (-1 to -")
    assert by_rfid.verdict == "yes"  # the paper's own: more codes, yet a larger R-FID
    assert by_rfid.apart.startswith("+0.11 (")


@pytest.mark.parametrize(("noise", "verdict"), [(0.01, "NO"), (20.0, NOISE)])
def test_what_other_pictures_would_turn_round_is_not_told_apart(noise, verdict):
    """HARD alone, which moves both alike by three times as much as they differ, hides nothing."""
    more, less = (next(one for one in ZOO if one.name == f"vq-f4-n{codes}-c3") for codes in (8192, 256))
    found = trends([row(more, 1, noise, psnr=20.0, rfid=1.0), row(less, 2, noise, psnr=21.0, rfid=2.0)])
    assert [trend.verdict for trend in found] == [verdict, verdict]
    low, high = (float(part) for part in found[0].apart.split("(")[1].strip(")").split(" to "))
    assert (low < 0 < high) == (verdict == NOISE)


def test_a_picture_that_comes_back_as_it_was_is_left_out():
    more, less = (row(one, seed) for seed, one in enumerate(settings_named("kl-f2-c2,kl-f4-c3")))
    more.each.psnr[3] = math.inf
    less.each.psnr[3:5] = math.inf
    assert [trend.verdict for trend in trends([more, less])] == ["yes", "yes"]


def test_only_what_differs_in_one_thing_is_compared():
    found = trends([row(setting) for setting in settings_named("kl-f2-c2,vq-f8-n256-c4")])
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
    assert ">NO</td>" in html  # PSNR rises with f here, as in no paper
    assert f">{NOISE}</td>" in html  # the same, with VQ and with KL
    assert found.page.lead.endswith(
        "of 4 orders in the paper's table, 2 are found here, too; not told apart: 1; turned round: 1."
    )


def test_a_page_of_nothing_yet_is_a_page(tmp_path: Path):
    assert "0 of 16" in ZooStudy(Bench()).found({}, tmp_path).page.html()


def test_a_setting_that_is_none_is_refused():
    with pytest.raises(UserError, match="'kl-f3' is no setting; choose of kl-f16-c16"):
        settings_named("kl-f2-c2,kl-f3")
