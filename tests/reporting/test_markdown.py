"""A page as Markdown says what the page says, with its pictures beside it."""

import pytest
from PIL import Image

from latentbrush.reporting import Grid, Page, Paragraph, Picture, Section, Table, save_markdown

pytestmark = pytest.mark.capability("evaluation-report")


def test_a_page_becomes_markdown_with_its_pictures_beside_it(tmp_path):
    red = Picture(Image.new("RGB", (4, 4), "red"), alt='a "red" one', caption="Red, of 4 pixels", width=8)
    blue = Picture(Image.new("RGB", (4, 4), "blue"), alt="blue", caption="Red, of 4 pixels")
    table = Table(("name", "figure"), [("a|b", "1"), ("c", "2")], numbers=("figure",), best=frozenset({(1, 1)}))
    items = [Paragraph("Words."), Paragraph("Beside.", note=True), table, red, Grid([blue, red])]
    save_markdown(Page("Title", "Lead.", [Section("All", items)], [("seed", "0")]), tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text("utf-8")
    assert text.startswith("# Title\n\nLead.\n\n## All\n\nWords.\n\n> Beside.\n\n")
    assert "| name | figure |\n| --- | ---: |\n| a\\|b | 1 |\n| c | **2** |" in text
    assert '<img src="page/red-of-4-pixels.png" alt="a &quot;red&quot; one" width="8">\n\n*Red, of 4 pixels*' in text
    assert "- seed: 0" in text
    assert text.count("page/red-of-4-pixels.png") == 2  # the same picture twice is one file
    assert text.count("page/red-of-4-pixels-2.png") == 1
    assert sorted(path.name for path in (tmp_path / "page").iterdir()) == [
        "red-of-4-pixels-2.png", "red-of-4-pixels.png"
    ]  # fmt: skip


def test_a_page_written_again_leaves_no_old_pictures(tmp_path):
    def page(colour, caption):
        picture = Picture(Image.new("RGB", (4, 4), colour), alt="plot", caption=caption)
        return Page("Title", "Lead.", [Section("All", [picture])])

    for colour, caption in (("red", "Plot"), ("blue", "Plot"), ("blue", "Other")):
        save_markdown(page(colour, caption), tmp_path / "page.md")
        assert [path.name for path in (tmp_path / "page").iterdir()] == [f"{caption.lower()}.png"]


def test_what_a_user_gave_is_text_in_markdown_too(tmp_path):
    page = Page("*a* <script>", "[x](y) `z`", [], [])
    save_markdown(page, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text("utf-8")
    assert "<script>" not in text
    assert "\\*a\\*" in text
    assert "\\[x\\](y) \\`z\\`" in text
