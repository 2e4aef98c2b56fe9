"""One HTML page that stands by itself: style and pictures are inside, and nothing is fetched when it is opened."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from latentbrush.files import whole_file
from latentbrush.reporting.extra import report_libraries

__all__ = ["Grid", "Item", "Page", "Paragraph", "Picture", "Section", "Table"]


@dataclass(frozen=True)
class Paragraph:
    """`note`: beside the matter, such as a warning."""

    text: str
    note: bool = False
    kind: str = "text"


@dataclass(frozen=True)
class Table:
    """Rows of cells, each a text; those of `columns` named in `numbers` are aligned to the right. `best`: (row, column)
    cells to mark."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[str] = ()
    best: frozenset[tuple[int, int]] = frozenset()
    caption: str = ""
    kind: str = "table"


@dataclass(frozen=True)
class Picture:
    """`width`: on the page, in pixels; a picture is enlarged to it without smoothing, so that every pixel is seen as it
    is. None for its own."""

    image: Image.Image
    alt: str
    caption: str = ""
    width: int | None = None
    kind: str = "picture"

    @property
    def png(self) -> bytes:
        buffer = io.BytesIO()
        self.image.save(buffer, format="PNG", optimize=True)
        return buffer.getvalue()

    @property
    def source(self) -> str:
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Grid:
    """Pictures beside each other, each with its caption."""

    pictures: Sequence[Picture]
    kind: str = "grid"


Item = Paragraph | Table | Picture | Grid


@dataclass(frozen=True)
class Section:
    title: str
    items: Sequence[Item]


@dataclass(frozen=True)
class Page:
    """`lead`: what the page says, in a sentence; `about`: how it came about, a name and a value each, at the end."""

    title: str
    lead: str
    sections: Sequence[Section]
    about: Sequence[tuple[str, str]] = field(default_factory=tuple)

    def html(self) -> str:
        """UserError without the libraries of the extra `report`."""
        report_libraries()
        from jinja2 import Environment, PackageLoader, StrictUndefined

        environment = Environment(
            loader=PackageLoader("latentbrush.reporting", ""),
            autoescape=True,  # captions and names are a user's
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return environment.get_template("page.html").render(page=self)

    def save(self, path: Path) -> None:
        """The file appears whole or not at all."""
        text = self.html()
        with whole_file(path) as beside:
            beside.write_text(text, encoding="utf-8")
