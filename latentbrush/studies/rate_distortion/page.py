"""The page of `study rate-distortion`; every sentence about bits is made of the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from latentbrush.reporting import Item, Page, Paragraph, Picture, Section, Series, Table, line_plot
from latentbrush.studies.rate_distortion.shares import RECOGNISED, SLACK, Shares, shares_of
from latentbrush.studies.study import Figures, Found

__all__ = ["found"]

Told = Mapping[str, Mapping[str, Figures]]
"""Part of the data -> what the model was told, or `KNOWN`, -> figures; what is not done yet is missing."""
KNOWN = "known codes"
TITLES = {"held_out": "Held-out pictures", "train": "Training pictures"}
HALF = 0.5
LEAST, TICKS = 1e-4, (0.001, 0.01, 0.1, 1.0)
"""Bits per dimension where plots begin, and what they mark."""


def found(told: Told, settings: Mapping[str, Any]) -> Found:
    plots: dict[str, Picture] = {}
    sections = []
    for part, cells in told.items():
        if not cells:
            continue
        name = part.replace("_", "-")
        plots[name] = _plot(cells, "rmse", "root mean square error (1/255)", TITLES[part])
        plots[f"{name}-recognised"] = _plot(
            cells, "recognised", "share of pictures that are recognised", f"{TITLES[part]}: are they still themselves?"
        )
        said = f"Plots begin at {LEAST:g} bits per dimension; what is known before stands in the table."
        items: list[Item] = [Paragraph(said), plots[name], plots[f"{name}-recognised"]]
        sections.append(Section(TITLES[part], [*items, *_tables(cells)]))
    sections.append(Section("Where the bits go", _shares(told)))
    sections.append(Section("Beside the literature", [Paragraph(text) for text in _claims(told)]))
    sections.append(Section("How it was measured", [Paragraph(text) for text in _method(settings)]))
    about = [(name, str(settings[name])) for name in ("model", "pictures", "size", "steps", "seed")]
    return Found(Page("What the bits of a picture buy", _lead(told), sections, about), plots)


def _curves(cells: Mapping[str, Figures]) -> dict[str, Figures]:
    return {told: figures for told, figures in cells.items() if told != KNOWN}


def _all_shares(told: Told) -> dict[tuple[str, str], Shares]:
    """Of all curves whose pictures' known codes are done."""
    return {
        (part, name): shares_of(curve, cells[KNOWN]["codes"])
        for part, cells in told.items()
        if KNOWN in cells
        for name, curve in _curves(cells).items()
    }


def _lead(told: Told) -> str:
    for (part, name), shares in _all_shares(told).items():
        parts = [f"every byte takes {shares.lossless:.2f} bits per dimension (by {shares.lossless_by})"]
        if shares.stage is not None:
            parts.append(f"what the first stage keeps {shares.stage:.3f}")
        if shares.semantic is not None:
            parts.append(f"and what makes them recognisable {shares.semantic:.3f}")
        return f"Of {TITLES[part].lower()}, {name}, {', '.join(parts)}."
    return "Nothing has been measured beside the known codes yet."


def _plot(cells: Mapping[str, Figures], value: str, y: str, title: str) -> Picture:
    lines = []
    for name, curve in _curves(cells).items():
        levels = curve["levels"]
        lines.append(Series(f"diffusion, {name}", _of(levels, "rate"), _of(levels, value)))
        stage, learned = curve["first_stage"], curve["first_stage"].get("learned")
        if learned is not None:
            lines.append(Series(f"first stage, diffusion prior, {name}", [learned], [stage[value]], points_only=True))
    for curve in list(_curves(cells).values())[:1]:
        stage = curve["first_stage"]
        if stage.get("standard") is not None:
            prior = "codebook" if stage["kind"] == "vq" else "normal prior"
            lines.append(Series(f"first stage, {prior}", [stage["standard"]], [stage[value]], points_only=True))
    codes = cells.get(KNOWN, {}).get("codes", [])
    for kind in ("JPEG", "PNG"):
        rows = [code for code in codes if code["kind"] == kind]
        if rows:
            lines.append(Series(kind, _of(rows, "rate"), _of(rows, value), dashed=True))
    drawn = [replace(line, x=[x for x, _ in kept], y=[y for _, y in kept]) for line in lines if (kept := _kept(line))]
    across = "rate (bits per dimension of the picture)"
    plot = line_plot(drawn, x=across, y=y, title=title, size=(9.5, 5.0), log_x=True, x_ticks=TICKS)
    return Picture(plot, f"{y} against rate")


def _kept(line: Series) -> list[tuple[float, float]]:
    """The points that a logarithmic axis has a place for."""
    return [(x, y) for x, y in zip(line.x, line.y, strict=True) if x >= LEAST]


def _of(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [float(row[name]) for row in rows]


def _tables(cells: Mapping[str, Figures]) -> list[Table]:
    columns = ("code", "bits per dimension", "error (1/255)", "recognised", "cosine")
    rows = []
    for name, curve in _curves(cells).items():
        for level in curve["levels"]:
            rows.append([f"diffusion to t = {level['t']:.0f}, {name}", *_figures(level["rate"], level)])
        stage = curve["first_stage"]
        if stage.get("learned") is not None:
            rows.append([f"first stage, diffusion prior, {name}", *_figures(stage["learned"], stage)])
        if stage.get("standard") is not None:
            prior = "codebook" if stage["kind"] == "vq" else "normal prior"
            rows.append([f"first stage, {prior}", *_figures(stage["standard"], stage)])
    rows += [[code["name"], *_figures(code["rate"], code)] for code in cells.get(KNOWN, {}).get("codes", [])]
    unique = list(dict.fromkeys(map(tuple, rows)))  # the first stage's own prior is the same whatever was told
    return [Table(columns, unique, columns[1:])]


def _figures(rate: float, row: Mapping[str, Any]) -> list[str]:
    return [f"{rate:.4f}", f"{row['rmse']:.2f}", f"{row['recognised']:.1%}", f"{row['cosine']:.3f}"]


def _shares(told: Told) -> list[Item]:
    columns = ("pictures", "recognised from", "first stage's error from", "first stage", "lossless", "by", "unsent")
    rows = [
        [
            f"{TITLES[part].lower()}, {name}",
            *("–" if v is None else f"{v:.3f}" for v in (shares.semantic, shares.detail, shares.stage)),
            f"{shares.lossless:.3f}",
            shares.lossless_by,
            "–" if shares.imperceptible is None else f"{shares.imperceptible:.0%}",
        ]
        for (part, name), shares in _all_shares(told).items()
    ]
    caption = (
        f"Bits per dimension. Recognised: {RECOGNISED:.0%} of those pictures are nearest to their own original that "
        f"are so behind the first stage. First stage's error: within {SLACK - 1:.0%}. Unsent: the share of the "
        "lossless bits that the first stage drops."
    )
    sentences = [Paragraph(_boundary(part, name, shares)) for (part, name), shares in _all_shares(told).items()]
    return [Table(columns, rows, columns[1:5], caption=caption), *sentences]


def _boundary(part: str, name: str, shares: Shares) -> str:
    who = f"{TITLES[part]}, {name}"
    if shares.stage is None or shares.imperceptible is None:
        return f"{who}: no first stage whose bits could be counted, so no boundary."
    if shares.stage > shares.lossless:
        return (
            f"{who}: the first stage's latents take {shares.stage:.3f} bits per dimension, more than the "
            f"{shares.lossless:.3f} of {shares.lossless_by}, so that it compresses nothing."
        )
    said = (
        f"{who}: from {shares.lossless:.3f} bits per dimension, which are every byte, down to {shares.stage:.3f} the "
        f"first stage compresses ({shares.imperceptible:.0%} of the bits, perceptual compression); there the diffusion "
        "model begins."
    )
    if shares.semantic is None or shares.meaning is None:
        return f"{said} Its estimates never become recognisable as the first stage's pictures are."
    return (
        f"{said} Of its bits the first {shares.semantic:.3f} ({shares.meaning:.1%} of all) make the pictures "
        f"recognisable, which is semantic compression; the other {max(0.0, shares.stage - shares.semantic):.3f} are "
        "details that the first stage keeps."
    )


def _claims(told: Told) -> list[str]:
    unsent = {
        f"{shares.imperceptible:.0%} on {TITLES[part].lower()}, {name}": shares.imperceptible > HALF
        for (part, name), shares in _all_shares(told).items()
        if shares.imperceptible is not None
    }
    said = []
    if unsent:
        held = sum(unsent.values())
        verdict = "holds" if held == len(unsent) else "is contradicted" if not held else f"holds in {held} cases"
        said.append(
            "That most bits of a picture are detail which a first stage may drop (Rombach et al. 2022, figure 2; more "
            f"than half, Ho et al. 2020, section 4.3) {verdict} here: {'; '.join(unsent)}."
        )
    for part, cells in told.items():
        said += [*_beside_jpeg(part, cells), *_lossless(part, cells)]
    return said or ["Nothing to compare yet."]


def _beside_jpeg(part: str, cells: Mapping[str, Figures]) -> list[str]:
    """The first stage and the code that is as far off: which of them takes fewer bits?"""
    rows = [code for code in cells.get(KNOWN, {}).get("codes", []) if code["kind"] == "JPEG"]
    for name, curve in _curves(cells).items():
        stage = curve["first_stage"]
        rate = stage.get("learned", stage.get("standard"))
        if rate is None or not rows:
            continue
        near = min(rows, key=lambda row: abs(row["rmse"] - stage["rmse"]))
        return [
            f"{TITLES[part]}: the first stage with the diffusion model as its prior, {name}, takes {rate:.3f} bits per "
            f"dimension at an error of {stage['rmse']:.1f}; the JPEG with the nearest error, {near['rmse']:.1f} "
            f"({near['name']}), takes {near['rate']:.3f}, {near['rate'] / rate:.1f} times as many. Recognised are "
            f"{stage['recognised']:.1%} behind the first stage, {near['recognised']:.1%} in that JPEG"
            f"{_loss(stage['recognised'], near['recognised'])}."
        ]
    return []


def _loss(own: float, known: float) -> str:
    if own >= known:
        return ""
    return ": what the first stage drops is not all imperceptible, and some of it tells one picture from another"


def _lossless(part: str, cells: Mapping[str, Figures]) -> list[str]:
    """The model as a code of bytes beside PNG."""
    if KNOWN not in cells:
        return []
    shared, alone = cells[KNOWN]["codes"][-1]["rate"], cells[KNOWN]["png_alone"]
    return [
        f"{TITLES[part]}, every byte: {curve['picture_bits']:.2f} bits per dimension by the model, {name}, at most; "
        f"PNG takes {shared:.2f}, and {alone:.2f} with a file for every picture."
        for name, curve in _curves(cells).items()
        if curve["picture_bits"] is not None
    ][:1]


def _method(settings: Mapping[str, Any]) -> list[str]:
    return [
        f"The curve is the variational bound in {settings['steps']} steps, read as a progressive code: what the KL "
        "terms down to a level add up to is sent, and the estimate of x0 at that level is decoded and compared with "
        "the picture, in bytes. Bits are divided by the numbers of the picture, not of the latents, and are none that "
        "a program has written: coding so needs relative entropy coding, which costs a little more.",
        "The first stage draws its latents from q(z | x); they take KL(q, prior) bits, with the standard normal for a "
        "prior, or with the diffusion model, whose bound less the entropy of q that is. The end of the curve sends "
        "that draw's own noise, too. With a codebook it is log2 of its codes for each cell. As a code of bytes the "
        "first stage says one Gaussian deviation for all pixels, the best there is.",
        f"JPEG and PNG are Pillow's, 256 pictures in one file, so that headers count for little. Recognised, and the "
        f"cosine, are by the features of {settings['extractor']['name']}; the bits of captions are not counted.",
    ]
