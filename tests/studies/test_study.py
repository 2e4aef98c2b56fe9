"""A study goes on where it was stopped, with the same settings only, and keeps no figure that is not finite."""

import json
import math

import pytest
from PIL import Image

from latentbrush.cli.study import carry_out
from latentbrush.errors import UserError
from latentbrush.reporting import Page, Paragraph, Picture, Section
from latentbrush.studies.study import Cell, Found, StudyRun

pytestmark = pytest.mark.capability("studies")


class Squares:
    """A study of nothing much."""

    name, unit = "squares", "multiplications"

    def __init__(self, numbers=(1, 2, 3), fail=None, value=None):
        self.numbers, self.fail, self.value, self.ran = numbers, fail, value, []

    def settings(self):
        return {"numbers": list(self.numbers)}

    def cells(self):
        return [
            Cell(f"n{n}", f"{n} times {n}", 100.0 * n, lambda folder, n=n: self.square(folder, n)) for n in self.numbers
        ]

    def square(self, folder, n):
        self.ran.append(n)
        if n == self.fail:
            (folder / "half.txt").write_text("half", encoding="utf-8")
            raise KeyboardInterrupt
        return {"square": n * n if self.value is None else self.value}

    def rate(self):
        return 2.0

    def found(self, results, folder):
        plot = Picture(Image.new("RGB", (2, 2)), "plot")
        text = ", ".join(f"{name}: {figures['square']}" for name, figures in results.items())
        return Found(Page("Squares", "lead", [Section("all", [Paragraph(text)])]), {"squares": plot})


def test_a_study_writes_its_page_plots_and_figures(tmp_path, capsys):
    carry_out(Squares(), tmp_path / "s", plan=False, resume=False)
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == [
        "cells", "index.html", "settings.json", "squares.md", "squares.png", "study.json"
    ]  # fmt: skip
    study = json.loads((tmp_path / "s/study.json").read_text())
    assert study == {
        "study": "squares",
        "numbers": [1, 2, 3],
        "cells": {"n1": {"square": 1}, "n2": {"square": 4}, "n3": {"square": 9}},
    }
    assert "n1: 1, n2: 4, n3: 9" in (tmp_path / "s/index.html").read_text()
    assert capsys.readouterr().out.endswith("index.html\n")


def test_it_goes_on_where_it_was_stopped(tmp_path):
    first = Squares(fail=2)
    with pytest.raises(KeyboardInterrupt):
        carry_out(first, tmp_path / "s", plan=False, resume=False)
    assert (tmp_path / "s/cells/n2/half.txt").is_file()  # what the cell left is there for its next try
    again = Squares()
    carry_out(again, tmp_path / "s", plan=False, resume=True)
    assert (first.ran, again.ran) == ([1, 2], [2, 3])


def test_a_study_resumed_with_other_settings_is_refused(tmp_path):
    carry_out(Squares((1,)), tmp_path / "s", plan=False, resume=False)
    with pytest.raises(UserError, match=r"numbers was \[1\] and is \[1, 2\]; name a new folder"):
        StudyRun(Squares((1, 2)), tmp_path / "s", resume=True)
    with pytest.raises(UserError, match="not empty"):
        StudyRun(Squares((1,)), tmp_path / "s", resume=False)
    with pytest.raises(UserError, match="no study to resume"):
        StudyRun(Squares((1,)), tmp_path / "other", resume=True)


def test_a_figure_that_is_not_finite_is_not_kept(tmp_path):
    with pytest.raises(UserError, match="cell n1: a figure is not finite"):
        carry_out(Squares((1,), value=math.nan), tmp_path / "s", plan=False, resume=False)
    assert not list((tmp_path / "s/cells/n1").iterdir())


def test_the_plan_states_work_and_time_and_does_nothing(tmp_path, capsys):
    study = Squares()
    carry_out(study, tmp_path / "s", plan=True, resume=False)
    printed = capsys.readouterr().out
    assert "300" in printed
    assert "2 min" in printed  # 300 of 2 a second
    assert "5 min" in printed  # all of it
    assert study.ran == []
    assert not (tmp_path / "s").exists()
