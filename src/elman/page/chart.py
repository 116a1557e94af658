"""Line charts as SVG, drawn with the page's own type and colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from elman.page.parts import text

__all__ = ["COLOURS", "Band", "Line", "line_chart"]

WIDTH, HEIGHT, LEGEND = 860, 340, 12
LEFT, RIGHT, TOP, BOTTOM = 76, 20, 34, 46
COLOURS = ("#0b62a8", "#c8431d", "#0f7b55", "#7a3e96", "#b07d00", "#5b6673")
MANY = 400
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Line(NamedTuple):
    """Points from left to right. faint: a thin line behind the others. dots: a dot at each point; ring: at this one.

    dashed: a line of dashes.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: str = COLOURS[0]
    faint: bool = False
    dots: bool = False
    ring: tuple[float, float] | None = None
    dashed: bool = False


class Band(NamedTuple):
    """What lies between two lines, shaded: points (x, low, high) from left to right, or a stretch of x as a whole.

    A low of -inf and a high of inf reach from edge to edge of the chart.
    """

    name: str
    points: Sequence[tuple[float, float, float]]
    colour: str = COLOURS[0]
    strength: float = 0.18


class _Scale(NamedTuple):
    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (self._bent(x) for x in (self.low, self.high, value))
        return self.start + (at - low) / (high - low or 1) * (self.end - self.start)

    def _bent(self, value: float) -> float:
        return math.log(value) if self.log else value


def line_chart(
    lines: Sequence[Line], x_name: str, y_name: str, *, bands: Sequence[Band] = (), from_zero: bool = True
) -> str:
    """A chart of one or several lines, with a legend where there are several; logarithmic over a wide range.

    bands: shaded behind the lines. from_zero: the x axis begins at 0, and wide ranges of y are logarithmic.
    """
    points = [point for line in lines for point in line.points if math.isfinite(point[1])]
    if not points:
        return ""
    edges = [(x, y) for band in bands for x, *both in band.points for y in both if math.isfinite(y)]
    across, up = _scales([*points, *edges], from_zero=from_zero)
    parts = [
        *(_shaded(band, across, up) for band in bands),
        *_frame(across, up, x_name, y_name),
        *(_drawn(line, across, up) for line in lines),
    ]
    entries: list[Line | Band] = [*lines, *bands]
    named = [entry for entry in entries if entry.name]
    if len(named) > 1:
        parts.append(_legend(named))
    label = f"{y_name} over {x_name}"
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _shaded(band: Band, across: _Scale, up: _Scale) -> str:
    low, high = min(up.start, up.end), max(up.start, up.end)

    def at(x: float, y: float) -> str:
        place = (low if y > 0 else high) if math.isinf(y) else up(y)
        return f"{across(x):.1f},{place:.1f}"

    upper = [at(x, b) for x, _, b in band.points]
    lower = [at(x, a) for x, a, _ in reversed(band.points)]
    style = f"fill: {band.colour}; fill-opacity: {band.strength:.2f}; stroke: none"
    return f'<polygon points="{" ".join([*upper, *lower])}" style="{style}"/>' if band.points else ""


def _scales(points: Sequence[tuple[float, float]], *, from_zero: bool) -> tuple[_Scale, _Scale]:
    low, high = (limit(y for _, y in points) for limit in (min, max))
    log = from_zero and low > 0 and high / low > 20
    if log:
        low, high = low / 1.1, high * 1.1
    else:
        room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
        low, high = (max(0.0, low - room) if low >= 0 else low - room), high + room
    left, right = (limit(x for x, _ in points) for limit in (min, max))
    left = min(0, left) if from_zero else left
    return _Scale(left, right, LEFT, WIDTH - RIGHT), _Scale(low, high, HEIGHT - BOTTOM, TOP, log)


def ticks(low: float, high: float, *, log: bool = False, most: int = 6) -> list[float]:
    """Round numbers between two limits, at most about so many."""
    if log:
        tens = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps, every = (1, 2, 5) if len(tens) < 4 else (1,), -(-len(tens) // 12)
        kept = [ten for ten in tens if ten % every == 0]
        return [value for ten in kept for step in steps if low <= (value := step * 10.0**ten) <= high]
    raw = (high - low or 1) / most
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _words(values: Sequence[float]) -> list[str]:
    """Numbers with as many decimals as the one that needs most; very large or small ones each in its own way."""
    if values and min(values) > 0 and max(values) / min(values) >= 1e5:
        # The decades of a logarithmic axis.
        return [f"10{str(round(math.log10(value))).translate(RAISED)}" for value in values]
    largest = max(map(abs, values), default=0.0)
    if largest >= 1e6 or (values and largest < 1e-3):
        return [f"{value:.4g}" for value in values]
    plain = [f"{value:.6f}".rstrip("0").rstrip(".") for value in values]
    decimals = max((len(word.partition(".")[2]) for word in plain), default=0)
    return [f"{value:,.{decimals}f}" for value in values]


def _frame(across: _Scale, up: _Scale, x_name: str, y_name: str) -> list[str]:
    parts = []
    rows = ticks(up.low, up.high, log=up.log)
    for value, word in zip(rows, _words(rows), strict=True):
        y = up(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{word}</text>')
    columns = ticks(across.low, across.high, most=8)
    for value, word in zip(columns, _words(columns), strict=True):
        place = f'x="{across(value):.1f}" y="{HEIGHT - BOTTOM + 20}"'
        parts.append(f'<text class="tick" {place} text-anchor="middle">{word}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="name" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{text(x_name)}</text>'
    )
    turned = f'transform="rotate(-90 14 {(TOP + HEIGHT - BOTTOM) / 2})"'
    height = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text class="name" x="14" y="{height}" text-anchor="middle" {turned}>{text(y_name)}</text>'
    )
    return parts


def _drawn(line: Line, across: _Scale, up: _Scale) -> str:
    points = [
        (across(x), up(y)) for x, y in thinned(line.points) if math.isfinite(y) and (y > 0 or not up.log)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    kind = "faint" if line.faint else "line"
    found = [f'<polyline class="{kind}" points="{path}" style="{_stroke(line)}"/>']
    if line.dots or len(points) == 1:
        found += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{line.colour}"/>' for x, y in points]
    if line.ring:
        x, y = across(line.ring[0]), up(line.ring[1])
        found.append(f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="7" style="stroke: {line.colour}"/>')
    return "".join(found)


def _stroke(line: Line) -> str:
    return f"stroke: {line.colour}" + ("; stroke-dasharray: 6 4" if line.dashed else "")


def thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most MANY points, evenly chosen, the last one among them."""
    if len(points) <= MANY:
        return points
    step = (len(points) - 1) / (MANY - 1)
    return [points[round(place * step)] for place in range(MANY)]


def _legend(entries: Sequence[Line | Band]) -> str:
    parts, x = [], float(WIDTH - RIGHT)
    for entry in reversed(entries):
        x -= 7.2 * len(entry.name) + 8
        parts.append(f'<text class="tick" x="{x:.1f}" y="{LEGEND + 4}">{text(entry.name)}</text>')
        x -= 8
        if isinstance(entry, Band):
            style = f"fill: {entry.colour}; fill-opacity: {max(entry.strength, 0.25):.2f}"
            parts.append(f'<rect x="{x - 18:.1f}" y="{LEGEND - 5}" width="18" height="10" style="{style}"/>')
        else:
            ends = f'x1="{x - 18:.1f}" x2="{x:.1f}" y1="{LEGEND}" y2="{LEGEND}"'
            parts.append(f'<line class="line" {ends} style="{_stroke(entry)}"/>')
        x -= 34
    return f"<g>{''.join(parts)}</g>"
