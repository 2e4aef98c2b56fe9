"""A page as Markdown, with its pictures as files beside it: for documentation and code hosts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from latentbrush.files import whole_file
from latentbrush.reporting.page import Grid, Item, Page, Paragraph, Picture, Table

__all__ = ["save_markdown"]


def save_markdown(page: Page, path: Path) -> None:
    """Write `path`, and its pictures into a folder of its name beside it, which `path` refers to."""
    pictures = _Pictures(path.with_suffix(""))
    lines = [f"# {_text(page.title)}", "", _text(page.lead), ""]
    for section in page.sections:
        lines += [f"## {_text(section.title)}", ""]
        for item in section.items:
            lines += [*_item(item, pictures), ""]
    if page.about:
        lines += ["## How it came about", "", *(f"- {_text(name)}: {_text(value)}" for name, value in page.about), ""]
    with whole_file(path) as beside:
        beside.write_text("\n".join(lines), encoding="utf-8")
    pictures.drop_others()


class _Pictures:
    """The folder of a page's pictures, each under a name of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, bytes] = {}

    def add(self, picture: Picture) -> str:
        """The name of its file, which is written."""
        stem = re.sub(r"[^a-z0-9]+", "-", (picture.caption or picture.alt).lower()).strip("-")[:60] or "picture"
        content, name, number = picture.png, f"{stem}.png", 2
        while self.names.get(name, content) != content:
            name, number = f"{stem}-{number}.png", number + 1
        self.names[name] = content
        self.folder.mkdir(exist_ok=True)
        with whole_file(self.folder / name) as beside:
            beside.write_bytes(content)
        return name

    def drop_others(self) -> None:
        """What an earlier page left."""
        for path in self.folder.glob("*.png"):
            if path.name not in self.names:
                path.unlink()


def _item(item: Item, pictures: _Pictures) -> Iterator[str]:
    if isinstance(item, Paragraph):
        yield f"> {_text(item.text)}" if item.note else _text(item.text)
    elif isinstance(item, Table):
        yield from _table(item)
    elif isinstance(item, Grid):
        yield " ".join(_picture(one, pictures) for one in item.pictures)
    else:
        yield _picture(item, pictures)
        if item.caption:
            yield ""
            yield f"*{_text(item.caption)}*"


def _table(table: Table) -> Iterator[str]:
    yield _row([_text(column) for column in table.columns])
    yield _row(["---:" if column in table.numbers else "---" for column in table.columns])
    for i, row in enumerate(table.rows):
        cells = [_text(cell) for cell in row]
        yield _row([f"**{cell}**" if (i, j) in table.best else cell for j, cell in enumerate(cells)])
    if table.caption:
        yield ""
        yield _text(table.caption)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _picture(picture: Picture, pictures: _Pictures) -> str:
    width = "" if picture.width is None else f' width="{picture.width}"'
    source = f"{pictures.folder.name}/{pictures.add(picture)}"
    return f'<img src="{source}" alt="{_attribute(picture.alt)}"{width}>'


def _text(text: str) -> str:
    """What a user gave is text: no markup, no new column."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return re.sub(r"([*_`\[\]])", r"\\\1", plain)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
