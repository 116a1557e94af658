"""A line chart on a sheet: what a page of the documentation, or a script, shows of a few rows of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from elman.plots import theme
from elman.plots.canvas import Area, Canvas, Disc, Label, Line, Rectangle, centred
from elman.plots.files import save
from elman.plots.quantities import numbers

__all__ = ["line_chart"]

WIDTH, HEIGHT = 860.0, 400.0
LEFT, RIGHT, TOP, BOTTOM = 92.0, 832.0, 118.0, 340.0
COLOURS = (theme.INPUT, theme.RECURRENT, theme.OUTPUT, theme.EMBEDDING, theme.MUTED)
FEW = 25
ROUND = (1, 2, 5, 10)
Values = Sequence[float] | Mapping[float, float]
Points = list[tuple[float, float]]


class Axis(NamedTuple):
    """Values from `low` to `high` at places from `start` to `end` of the sheet."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Where a value stands."""
        low, high, place = (math.log10(x) if self.log else x for x in (self.low, self.high, value))
        return self.start + (place - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """At most about so many round values, each with its word; powers of ten are marked up as such."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            every = math.ceil((last - first + 1) / most)
            tens = range(first, last + 1, every)
            return [(10.0**ten, f"10^{{{ten}}}".replace("-", "−")) for ten in tens]
        raw = (self.high - self.low) / most
        size = 10.0 ** math.floor(math.log10(raw))
        step = next(size * factor for factor in ROUND if size * factor >= raw * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        values = [round(number * step, 12) for number in range(first, last + 1)]
        return [(value, f"{value:,.{decimals}f}".replace("-", "−")) for value in values]


def line_chart(
    lines: Mapping[str, Values],
    picture: Path | str,
    *,
    title: str,
    x: str = "",
    y: str = "",
    log: bool = False,
    from_zero: bool = False,
) -> Path:
    """Draw one line for each name, and write the picture.

    Args:
        lines: by its name, either the values at x = 0, 1, 2, ... or the value at each x. Values that are not finite are
            left out, and so is what a logarithmic axis cannot show.
        picture: where to write, ending in .svg or .png.
        title: stands above.
        x: what lies to the right, with its unit.
        y: what lies upwards, with its unit.
        log: whether the y axis is logarithmic.
        from_zero: whether the y axis begins at 0.

    Returns:
        The path of the picture.

    Raises:
        ValueError: no line, or a line without a point to show.
        UserError: another ending.
    """
    points = {name: _points(values, log=log) for name, values in lines.items()}
    empty = [name for name, found in points.items() if not found]
    if empty or not points:
        raise ValueError(f"a chart needs points to show; {empty or 'lines'} has none")
    every = [point for found in points.values() for point in found]
    across = _axis((at for at, _ in every), (LEFT, RIGHT))
    up = _axis((value for _, value in every), (BOTTOM, TOP), room=0.06, log=log, from_zero=from_zero)
    canvas = Canvas(title)
    canvas.add(Label(36, 50, title, theme.TITLE, bold=True))
    _frame(canvas, across, up, x, y)
    _legend(canvas, list(lines))
    for colour, found in zip(_colours(len(points)), points.values(), strict=True):
        placed = tuple((across.at(at), up.at(value)) for at, value in found)
        if len(placed) > 1:
            canvas.add(Line(placed, colour, stroke_width=2.4, radius=0))
        if len(placed) <= FEW:
            canvas.add(*(Disc(place, 4, colour, theme.PAPER) for place in placed))
    return save(canvas.close((WIDTH, HEIGHT)), picture)


def _points(values: Values, *, log: bool) -> Points:
    pairs = values.items() if isinstance(values, Mapping) else enumerate(numbers(values))
    found = [(float(at), float(value)) for at, value in pairs]
    return [(at, value) for at, value in found if math.isfinite(value) and (value > 0 or not log)]


def _axis(
    values: Iterable[float],
    ends: tuple[float, float],
    *,
    room: float = 0.0,
    log: bool = False,
    from_zero: bool = False,
) -> Axis:
    found = list(values)
    low, high = min(found), max(found)
    if log:
        # Whole powers of ten, so that a tick stands at both ends.
        low, high = (10.0 ** limit(math.log10(x)) for limit, x in ((math.floor, low), (math.ceil, high)))
        return Axis(low, high if high > low else 10 * low, *ends, log=True)
    margin = room * (high - low)
    low, high = (min(0.0, low) if from_zero else low - margin), high + margin
    return Axis(low, high, *ends) if high > low else Axis(low - 0.5, high + 0.5, *ends)


def _frame(canvas: Canvas, across: Axis, up: Axis, x: str, y: str) -> None:
    for value, word in up.ticks(6):
        at = up.at(value)
        canvas.add(Line(((LEFT, at), (RIGHT, at)), theme.FRAME, theme.HAIRLINE))
        style, size = ("math", theme.INDEX) if up.log else ("sans", theme.SMALL)
        canvas.add(
            Label(LEFT - 12, at + 5, word, size, style, theme.MUTED, "end")  # type: ignore[arg-type]
        )
    for value, word in across.ticks(10):
        canvas.add(centred(across.at(value), BOTTOM + 18, word, size=theme.SMALL, colour=theme.MUTED))
    canvas.add(
        Line(((LEFT, BOTTOM), (RIGHT, BOTTOM)), theme.FAINT),
        Label(36, TOP - 22, y, theme.SMALL, colour=theme.MUTED),
        Label(RIGHT, BOTTOM + 43, x, theme.SMALL, colour=theme.MUTED, anchor="end"),
    )


def _colours(count: int) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(count)]


def _legend(canvas: Canvas, names: list[str]) -> None:
    """The names of the lines, right above the frame; one alone needs none."""
    right = RIGHT
    for name, colour in reversed(
        list(zip(names, _colours(len(names)), strict=True)) if len(names) > 1 else []
    ):
        label = Label(right, TOP - 22, name, theme.SMALL, anchor="end")
        left = label.left - 30
        canvas.add(label, Rectangle(Area(left, TOP - 29, left + 22, TOP - 26), colour, radius=1.5))
        right = left - 24
