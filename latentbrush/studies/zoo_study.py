"""The autoencoder zoo as a study: sixteen first stages trained alike, in one table beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from latentbrush.reporting import Page, Paragraph, Picture, Section, Series, Table, line_plot
from latentbrush.studies.study import Cell, Found
from latentbrush.studies.zoo import ZOO, PaperFigures, ZooSetting
from latentbrush.studies.zoo_bench import SHEET, ZooBench
from latentbrush.studies.zoo_trends import NOISE, Row, Trend, trends

__all__ = ["ZooStudy"]

Figures = Mapping[str, Any]
FIGURES = (("R-FID", "R-FD", "rfid", True), ("PSNR", "PSNR", "psnr", False), ("PSIM", "PSIM", "psim", True),
           ("SSIM", "SSIM", "ssim", False))  # fmt: skip
"""As the paper calls it, as it is called here, in `PaperFigures`, and whether less is better."""
SURENESS = (
    "By how much: the first one's figure less the second's on the same held-out emoji, with the 95% interval; not told "
    "apart: it holds 0. For PSNR pictures are resampled, for R-FD it is the infinitesimal jackknife. Either tells what "
    "other pictures would change, not what another training would: each setting was trained once."
)


class ZooStudy:
    """`settings_of`: which rows of the table. All else is the bench's."""

    name, unit = "zoo", "TFLOP"

    def __init__(self, bench: ZooBench, settings_of: Sequence[ZooSetting] = ZOO) -> None:
        self.bench, self.chosen = bench, tuple(settings_of)

    def settings(self) -> dict[str, Any]:
        return {**self.bench.settings(), "zoo": [setting.name for setting in self.chosen]}

    def cells(self) -> Sequence[Cell]:
        """From f = 2 to 16 with both regularisers first, f = 32 and the variants after: a table stopped half way is
        still one."""
        seen: set[tuple[int, str]] = set()
        first: list[ZooSetting] = []
        later: list[ZooSetting] = []
        for setting in sorted(self.chosen, key=lambda one: one.factor):
            key = (setting.factor, setting.regulariser)
            (later if key in seen or setting.factor > 16 else first).append(setting)
            seen.add(key)
        return self.bench.cells([*first, *later])

    def rate(self) -> float:
        return self.bench.rate()

    def found(self, results: Mapping[str, Figures], folder: Path) -> Found:
        rows = [
            Row(setting, results[setting.name], self.bench.each(setting, folder / "cells" / setting.name))
            for setting in self.chosen
            if setting.name in results
        ]
        told = trends(rows)
        plots = {"distortion": _distortion(rows), "trend": _beside_the_paper(rows)} if rows else {}
        sections = [
            Section("The table", [_table(rows)]),
            Section("What holds here, and what does not", [_contradicted(told), Paragraph(SURENESS), _verdicts(told)]),
            Section("Plots", list(plots.values())),
            Section("Held-out emoji, and what comes back", _sheets(rows, folder)),
        ]
        return Found(Page("The autoencoder zoo", _lead(rows, told), sections, self._about(results)), plots)

    def _about(self, results: Mapping[str, Figures]) -> list[tuple[str, str]]:
        settings = self.bench.settings()
        work = sum(float(found["training_tflop"]) for found in results.values())
        return [
            ("cells", f"{len(results)} of {len(self.chosen)}"),
            ("training", f"{settings['steps']} steps each, {work:.0f} TFLOP in all, seed {settings['seed']}"),
            ("pictures", f"{settings['held_out']} held-out emoji of {settings['size']}x{settings['size']}"),
            ("R-FD by", str(settings["rfid_by"]["name"])),
            ("PSIM by", str(settings["psim_by"]["name"])),
        ]


def _lead(rows: Sequence[Row], told: Sequence[Trend]) -> str:
    held, unclear = (sum(trend.verdict == verdict for trend in told) for verdict in ("yes", NOISE))
    return (
        f"{len(rows)} first stages of LDM's table 8, scaled to 32-pixel emoji and trained alike, beside the paper's "
        f"figures: of {len(told)} orders in the paper's table, {held} are found here, too; not told apart: {unclear}; "
        f"turned round: {len(told) - held - unclear}."
    )


def _table(rows: Sequence[Row]) -> Table:
    columns = ["f", "reg", "codes", "c", "attention"]
    columns += [column for ours, *_ in FIGURES for column in (ours, f"{ours}, paper")] + ["codes used", "parameters"]
    cells = [[*_identity(setting), *_figures(setting.paper, found), *_cost(found)] for setting, found, _ in rows]
    caption = (
        "Here: held-out emoji of 32x32, R-FID as the Frechet distance of the shipped CLIP's features, PSIM as the "
        "distance of its tokens; the paper: ImageNet at 256x256, so that orders compare, values do not. Codes: here, "
        "and the paper's in brackets."
    )
    return Table(columns, cells, numbers=columns, caption=caption)


def _identity(setting: ZooSetting) -> list[str]:
    codes = "-" if setting.codes is None else f"{setting.emoji_codes} ({setting.codes})"
    return [str(setting.factor), setting.regulariser.upper(), codes, str(setting.channels), _yes(setting.attention)]


def _figures(paper: PaperFigures, found: Figures) -> list[str]:
    cells = []
    for _, name, of_paper, _ in FIGURES:
        cells += [f"{found['held_out'][name]['value']:.3g}", f"{getattr(paper, of_paper):g}"]
    return cells


def _cost(found: Figures) -> list[str]:
    used = found["held_out"].get("codes_used")
    return ["-" if used is None else f"{used:.0%}", f"{found['parameters'] / 1e6:.2f} M"]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _contradicted(told: Sequence[Trend]) -> Paragraph:
    turned = [trend for trend in told if trend.verdict == "NO"]
    if not turned:
        return Paragraph("Nothing here contradicts the paper's table." if told else "No two settings are compared.")
    claims = "; ".join(f"{trend.claim} ({trend.paper}), here {trend.here}" for trend in turned)
    return Paragraph(f"The paper's table has, and here it is the other way round: {claims}.")


def _verdicts(told: Sequence[Trend]) -> Table:
    rows = [[trend.claim, trend.paper, trend.here, trend.apart, trend.verdict] for trend in told]
    return Table(("the paper's table says", "paper", "here", "by how much", "holds"), rows)


def _distortion(rows: Sequence[Row]) -> Picture:
    """PSNR against f, a line for each regulariser: of several settings of one f the best."""
    series = []
    for regulariser in ("kl", "vq"):
        best: dict[int, float] = {}
        for setting, found, _ in rows:
            if setting.regulariser == regulariser:
                value = float(found["held_out"]["PSNR"]["value"])
                best[setting.factor] = max(value, best.get(setting.factor, 0.0))
        points = sorted(best.items())
        series.append(Series(regulariser.upper(), [float(f) for f, _ in points], [value for _, value in points]))
    ticks = sorted({float(setting.factor) for setting, *_ in rows})
    plot = line_plot(
        series, x="downsampling factor f", y="PSNR of held-out emoji (dB)",
        title="What each factor loses (of several settings the best)", log_x=True, x_ticks=ticks,
    )  # fmt: skip
    return Picture(plot, "PSNR against the downsampling factor")


def _beside_the_paper(rows: Sequence[Row]) -> Picture:
    """Each setting a point: the paper's PSNR across, ours up."""
    points = [
        Series(setting.name, [setting.paper.psnr], [float(found["held_out"]["PSNR"]["value"])], points_only=True)
        for setting, found, _ in rows
    ]
    plot = line_plot(
        points, x="PSNR in the paper (dB, ImageNet 256x256)", y="PSNR here (dB, emoji 32x32)",
        title="Every setting, the paper's figure and ours", labelled=True, size=(8.0, 6.0),
    )  # fmt: skip
    return Picture(plot, "our PSNR against the paper's")


def _sheets(rows: Sequence[Row], folder: Path) -> list[Picture | Paragraph]:
    shown: list[Picture | Paragraph] = [Paragraph("Above the originals, below what each first stage gives back.")]
    for setting, *_ in rows:
        path = folder / "cells" / setting.name / SHEET
        if path.is_file():
            with Image.open(path) as image:
                sheet = image.convert("RGB")
            shown.append(Picture(sheet, setting.name, setting.name, width=min(2 * sheet.width, 720)))
    return shown
