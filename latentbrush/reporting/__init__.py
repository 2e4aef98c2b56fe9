"""Pages and plots: what people would rather look at than read. Knows nothing of models."""

from latentbrush.reporting.extra import report_libraries
from latentbrush.reporting.markdown import save_markdown
from latentbrush.reporting.page import Grid, Item, Page, Paragraph, Picture, Section, Table
from latentbrush.reporting.plots import Series, line_plot

__all__ = [
    "Grid",
    "Item",
    "Page",
    "Paragraph",
    "Picture",
    "Section",
    "Series",
    "Table",
    "line_plot",
    "report_libraries",
    "save_markdown",
]
