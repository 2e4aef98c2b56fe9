"""Pages stand by themselves, and what users gave is text in them."""

import subprocess
import sys

import pytest
from PIL import Image

from latentbrush.errors import UserError
from latentbrush.reporting import Grid, Page, Paragraph, Picture, Section, Series, Table, extra, line_plot

pytestmark = pytest.mark.capability("evaluation-report")


def a_page(text: str = "words") -> Page:
    square = Picture(Image.new("RGB", (4, 4), "red"), alt=text, caption=text, width=8)
    table = Table(("name", "figure"), [(text, "1"), ("b", "2")], numbers=("figure",), best=frozenset({(1, 1)}))
    return Page(text, text, [Section(text, [Paragraph(text), table, square, Grid([square, square])])], [(text, text)])


def test_a_page_holds_everything_in_itself(tmp_path):
    a_page().save(tmp_path / "index.html")
    html = (tmp_path / "index.html").read_text("utf-8")
    assert html.count("data:image/png;base64,") == 3
    assert 'class="number best">2</td>' in html
    assert html.count('class="pixelated" width="8"') == 3
    assert "http" not in html
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_what_a_user_gave_is_text_not_markup():
    html = a_page("<script>alert('1')</script>").html()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_a_plot_draws_its_lines():
    plain = line_plot([Series("a", [1, 2], [1, 2])], x="x", y="y", title="t")
    banded = line_plot([Series("a", [1, 2], [1, 2], [0.5, 1], [1.5, 3])], x="x", y="y", title="t")
    assert plain.size == banded.size == (1040, 598)
    assert len(set(plain.get_flattened_data())) > 10
    assert plain.tobytes() != banded.tobytes()


def test_numbers_are_marked_as_asked():
    line = [Series("a", [2, 20], [1, 2])]
    powers, asked, unlike = (
        line_plot(line, x="x", y="y", title="t", log_x=True, x_ticks=ticks).tobytes()
        for ticks in ((), (2, 5, 20), (2, 6, 20))
    )
    assert len({powers, asked, unlike}) == 3


def test_missing_libraries_are_asked_for_by_name(monkeypatch):
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"need jinja2 and matplotlib; pip install 'latentbrush\[report\]'"):
        a_page().html()
    with pytest.raises(UserError, match="pip install"):
        line_plot([], x="x", y="y", title="t")


def test_importing_the_room_imports_no_plotting():
    code = (
        "import sys, latentbrush.reporting; print([m for m in ('matplotlib', 'jinja2', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
