"""A matrix as a picture: one coloured cell a number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from elman.plots import theme
from elman.plots.canvas import Area, Canvas, Label, Rectangle, centred
from elman.plots.files import save
from elman.plots.quantities import numbers
from elman.plots.text import width

__all__ = ["heat_map"]

LEFT, TOP = 36.0, 108.0
NARROWEST, WIDEST = 500.0, 780.0
WIDE, HIGH, SMALLEST = 92.0, 46.0, 14.0
SCALE, STEPS = 150.0, 30
# From zero upwards and from zero downwards; zero is nearly paper.
ZERO, UP, DOWN = "#f1f4f8", theme.INPUT, theme.RECURRENT


def heat_map(
    matrix: Iterable[Iterable[float]],
    picture: Path | str,
    *,
    title: str,
    rows: Sequence[object] | None = None,
    columns: Sequence[object] | None = None,
    x: str = "",
    y: str = "",
    limit: float | None = None,
) -> Path:
    """Draw a matrix, its first row on top: blue above zero, red below, the paler the nearer to it.

    Args:
        matrix: rows of numbers, all of one length; a tensor of two axes too.
        picture: where to write, ending in .svg or .png.
        title: stands above.
        rows: the names of the rows; None where they have none.
        columns: the names of the columns; None where they have none.
        x: what the columns are.
        y: what the rows are.
        limit: the size of a number that has the full colour; without it the largest in the matrix.

    Returns:
        The path of the picture.

    Raises:
        ValueError: no number, rows of several lengths, or not as many names as rows or columns.
        UserError: another ending.
    """
    cells = [[float(value) for value in numbers(row)] for row in numbers(matrix)]
    names = [str(name) for name in rows or ()], [str(name) for name in columns or ()]
    _check(cells, *names)
    highest = limit or max(abs(value) for row in cells for value in row) or 1.0
    canvas = Canvas(title)
    canvas.add(Label(LEFT, 50, title, theme.TITLE, bold=True))
    canvas.add(Label(LEFT, 75, f"rows: {y}" if y else "", theme.SMALL, colour=theme.MUTED))
    left = LEFT + max((width(name, theme.SMALL) + 12 for name in names[0]), default=0.0)
    wide = min(WIDE, max(SMALLEST, (WIDEST - left) / len(cells[0])))
    high = min(HIGH, wide)
    for place, row in enumerate(cells):
        for column, value in enumerate(row):
            x0, y0 = left + column * wide, TOP + place * high
            area = Area(x0 + 1, y0 + 1, x0 + wide - 1, y0 + high - 1)
            canvas.add(Rectangle(area, colour(value / highest), radius=min(4.0, wide / 6)))
    bottom, right = TOP + len(cells) * high, left + len(cells[0]) * wide
    _names(canvas, names, (left, bottom), (wide, high))
    if x:
        below = bottom + (44 if names[1] else 22)
        canvas.add(Label(right, below, x, theme.SMALL, colour=theme.MUTED, anchor="end"))
        bottom = below
    edge = max(right, NARROWEST, LEFT + width(title, theme.TITLE, bold=True))
    _scale(canvas, highest, edge, both=min(min(row) for row in cells) < 0)
    return save(canvas.close((edge + LEFT, bottom + (28 if x else 44))), picture)


def colour(part: float) -> str:
    """The colour of a number from −1 to 1; beyond, that of the end."""
    end = UP if part >= 0 else DOWN
    share = min(1.0, abs(part))
    pairs = ((int(ZERO[at : at + 2], 16), int(end[at : at + 2], 16)) for at in (1, 3, 5))
    return "#" + "".join(f"{round(low + (high - low) * share):02x}" for low, high in pairs)


def _check(cells: list[list[float]], rows: list[str], columns: list[str]) -> None:
    lengths = {len(row) for row in cells}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"a heat map needs rows of one length; got rows of {sorted(lengths) or 'none'}")
    for names, count, kind in ((rows, len(cells), "rows"), (columns, len(cells[0]), "columns")):
        if names and len(names) != count:
            raise ValueError(f"{len(names)} names for {count} {kind}")


def _names(
    canvas: Canvas, names: tuple[list[str], list[str]], corner: tuple[float, float], cell: tuple[float, float]
) -> None:
    (left, bottom), (wide, high) = corner, cell
    for place, name in enumerate(names[0]):
        y = TOP + (place + 0.5) * high + 5
        canvas.add(Label(left - 10, y, name, theme.SMALL, colour=theme.MUTED, anchor="end"))
    for place, name in enumerate(names[1]):
        middle = left + (place + 0.5) * wide
        canvas.add(centred(middle, bottom + 15, name, size=theme.SMALL, colour=theme.MUTED))


def _scale(canvas: Canvas, highest: float, right: float, *, both: bool) -> None:
    """Which colour is which number."""
    word = Label(right, 81, f"{highest:.2g}", theme.SMALL, colour=theme.MUTED, anchor="end")
    end, low = word.left - 8, -1.0 if both else 0.0
    wide = SCALE / STEPS
    for step in range(STEPS):
        part = low + (1 - low) * step / (STEPS - 1)
        left = end - SCALE + step * wide
        canvas.add(Rectangle(Area(left, 70, left + wide + 0.3, 82), colour(part), radius=0))
    start = f"−{highest:.2g}" if both else "0"
    canvas.add(word, Label(end - SCALE - 8, 81, start, theme.SMALL, colour=theme.MUTED, anchor="end"))
