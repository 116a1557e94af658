"""Pages: one HTML file that holds all it shows and asks nothing of a network."""

from elman.page.activity import activity_map, coloured, lit_curve, squares
from elman.page.chart import COLOURS, Band, Line, line_chart
from elman.page.document import Section, document
from elman.page.parts import (
    Html,
    columns,
    details,
    facts,
    figure,
    heat_map,
    inline,
    matrix,
    paragraph,
    picture,
    preformatted,
    table,
    text,
)

__all__ = [
    "COLOURS",
    "Band",
    "Html",
    "Line",
    "Section",
    "activity_map",
    "coloured",
    "columns",
    "details",
    "document",
    "facts",
    "figure",
    "heat_map",
    "inline",
    "line_chart",
    "lit_curve",
    "matrix",
    "paragraph",
    "picture",
    "preformatted",
    "squares",
    "table",
    "text",
]
