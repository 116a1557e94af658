"""A sheet of drawing primitives: what `svg` writes and `png` paints, and what the tests measure.

Pixels, x to the right and y downwards, as in SVG.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from elman.plots import theme
from elman.plots.text import ASCENT, DESCENT, Style, runs, width

Anchor = Literal["start", "middle", "end"]
Point = tuple[float, float]

HEAD_LENGTH = 10.0
HEAD_WIDTH = 8.0


class Area(NamedTuple):
    """A rectangle on the sheet."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Area") -> bool:
        """Whether the two share more than an edge."""
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.bottom <= other.top or other.bottom <= self.top)


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A box with round corners."""

    area: Area
    fill: str
    stroke: str = "none"
    radius: float = theme.RADIUS
    stroke_width: float = theme.STROKE
    dash: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Disc:
    """A filled circle."""

    centre: Point
    radius: float
    fill: str
    stroke: str = "none"
    stroke_width: float = theme.STROKE


@dataclass(frozen=True, slots=True)
class Line:
    """A polyline with round corners; with `arrow`, a head at its last point; with `halo`, a gap where it crosses."""

    points: tuple[Point, ...]
    colour: str = theme.INK
    stroke_width: float = theme.STROKE
    dash: tuple[float, ...] = ()
    arrow: bool = False
    halo: str = ""
    radius: float = 9.0

    def head(self) -> tuple[Point, ...]:
        """The arrowhead, as a closed polygon with a notched back."""
        (x0, y0), (x1, y1) = self.points[-2:]
        length = math.hypot(x1 - x0, y1 - y0)
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        back_x, back_y = x1 - dx * HEAD_LENGTH, y1 - dy * HEAD_LENGTH
        half = HEAD_WIDTH / 2
        notch = (x1 - dx * HEAD_LENGTH * 0.72, y1 - dy * HEAD_LENGTH * 0.72)
        return (
            (x1, y1),
            (back_x - dy * half, back_y + dx * half),
            notch,
            (back_x + dy * half, back_y - dx * half),
        )

    def body(self) -> tuple[Point, ...]:
        """The points of the stroke itself: it stops inside the head."""
        return (*self.points[:-1], self.head()[2]) if self.arrow else self.points

    def commands(self) -> Iterator[tuple[str, tuple[Point, ...]]]:
        """The stroke as path commands M, L and Q (control, end)."""
        points = self.body()
        yield "M", (points[0],)
        for before, corner, after in zip(points, points[1:], points[2:], strict=False):
            if not self.radius:
                yield "L", (corner,)
                continue
            yield "L", (_towards(corner, before, self.radius),)
            yield "Q", (corner, _towards(corner, after, self.radius))
        yield "L", (points[-1],)


@dataclass(frozen=True, slots=True)
class Label:
    """One line of text; (x, y) is on its baseline."""

    x: float
    y: float
    text: str
    size: float = theme.BODY
    style: Style = "sans"
    colour: str = theme.INK
    anchor: Anchor = "start"
    bold: bool = False

    @property
    def width(self) -> float:
        """Width in pixels."""
        return width(self.text, self.size, self.style, bold=self.bold)

    @property
    def left(self) -> float:
        """Where the text starts."""
        return self.x - self.width * {"start": 0.0, "middle": 0.5, "end": 1.0}[self.anchor]

    @property
    def area(self) -> Area:
        """What the text covers."""
        parts = runs(self.text, self.style)
        top = max((ASCENT * run.scale - run.shift for run in parts), default=0.0)
        bottom = max((DESCENT * run.scale + run.shift for run in parts), default=0.0)
        return Area(self.left, self.y - top * self.size, self.left + self.width, self.y + bottom * self.size)


Shape = Rectangle | Disc | Line | Label


@dataclass(slots=True)
class Canvas:
    """A sheet that grows downwards while it is drawn on; `close` sets its size and background."""

    title: str
    shapes: list[Shape] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0

    def add(self, *shapes: Shape) -> None:
        """Draw on top of what is there."""
        self.shapes += shapes

    def close(self, size: tuple[float, float]) -> "Canvas":
        """Give the sheet its size and lay the background under everything."""
        self.width, self.height = (math.ceil(side) for side in size)
        paper = Rectangle(Area(0, 0, self.width, self.height), theme.PAPER, radius=14)
        frame_area = Area(0.5, 0.5, self.width - 0.5, self.height - 0.5)
        frame = Rectangle(frame_area, "none", theme.FRAME, radius=14, stroke_width=theme.HAIRLINE)
        self.shapes[:0] = [paper, frame]
        return self

    def labels(self) -> list[Label]:
        """Every line of text on the sheet."""
        return [shape for shape in self.shapes if isinstance(shape, Label)]


def arrow(*points: Point, colour: str = theme.INK, halo: str = "", dash: tuple[float, ...] = ()) -> Line:
    """A stroke with a head at its last point."""
    return Line(points, colour, arrow=True, halo=halo, dash=dash)


def centred(
    x: float, y: float, text: str, *, size: float = theme.BODY, style: Style = "sans", **look: str
) -> Label:
    """A label whose middle is at (x, y)."""
    return Label(x, y + size * 0.34, text, size, style, look.get("colour", theme.INK), "middle")


def _towards(start: Point, end: Point, distance: float) -> Point:
    length = math.hypot(end[0] - start[0], end[1] - start[1])
    part = min(distance / length, 0.5) if length else 0.0
    return start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part


def crossings(line: Line, areas: Iterable[Area]) -> list[Area]:
    """The areas that a stroke of horizontal and vertical parts runs through."""
    parts = [
        Area(min(x0, x1) - 0.5, min(y0, y1) - 0.5, max(x0, x1) + 0.5, max(y0, y1) + 0.5)
        for (x0, y0), (x1, y1) in zip(line.points, line.points[1:], strict=False)
    ]
    return [area for area in areas if any(area.meets(part) for part in parts)]
