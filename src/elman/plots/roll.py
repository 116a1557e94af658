"""A piano roll as a picture: time to the right, pitch upwards; what was given has another colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from elman.plots import theme
from elman.plots.canvas import Area, Canvas, Label, Line, Rectangle, centred

__all__ = ["Bar", "piano_roll"]

LEFT, TOP, RIGHT, BOTTOM = 58.0, 54.0, 18.0, 44.0
WIDTH, ROW = 920.0, 6.0
FEWEST_ROWS, MOST_LABELS = 24, 14
BLACK = {1, 3, 6, 8, 10}
WRITTEN, GIVEN = theme.INPUT, theme.RECURRENT


class Bar(NamedTuple):
    """A note. start, end: in any unit of time. row: its pitch, as a number of MIDI. given: not written by the model."""

    start: float
    end: float
    row: int
    given: bool = False


def piano_roll(bars: Sequence[Bar], title: str, *, unit: str = "seconds", given: str = "given") -> Canvas:
    """The picture of notes; the black keys of a piano are darker rows, each C has its name.

    unit: of the time. given: what the notes of the second colour are.
    """
    canvas = Canvas(title)
    low, high = _range(bars)
    length = max((bar.end for bar in bars), default=1.0) or 1.0
    across = (WIDTH - LEFT - RIGHT) / length
    bottom = TOP + (high - low + 1) * ROW

    def y(row: int) -> float:
        return TOP + (high - row) * ROW

    for row in range(low, high + 1):
        if row % 12 in BLACK:
            area = Area(LEFT, y(row), WIDTH - RIGHT, y(row) + ROW)
            canvas.add(Rectangle(area, theme.PANEL, radius=0))
        if row % 12 == 0:
            edge = y(row) + ROW
            canvas.add(Line(((LEFT, edge), (WIDTH - RIGHT, edge)), theme.FRAME, theme.HAIRLINE))
            canvas.add(Label(LEFT - 10, edge + 1, f"C{row // 12 - 1}", 13, colour=theme.MUTED, anchor="end"))
    for at in _ticks(length):
        x = LEFT + at * across
        canvas.add(Line(((x, TOP), (x, bottom)), theme.FRAME, theme.HAIRLINE))
        canvas.add(centred(x, bottom + 14, f"{at:g}", size=13, colour=theme.MUTED))
    canvas.add(Label(WIDTH - RIGHT, bottom + 34, unit, 13, colour=theme.MUTED, anchor="end"))
    # What was given lies on top: a melody is seen where another voice crosses it.
    for bar in sorted(bars, key=lambda bar: bar.given):
        left, right = LEFT + bar.start * across, LEFT + bar.end * across
        area = Area(left, y(bar.row) + 0.4, max(right - 0.8, left + 0.8), y(bar.row) + ROW - 0.4)
        canvas.add(
            Rectangle(area, GIVEN if bar.given else WRITTEN, radius=min(1.6, (area.right - area.left) / 2))
        )
    canvas.add(Label(LEFT, 32, title, 16, bold=True))
    if any(bar.given for bar in bars):
        _legend(canvas, given)
    return canvas.close((WIDTH, bottom + BOTTOM))


def _range(bars: Sequence[Bar]) -> tuple[int, int]:
    """The rows that are shown: those of the notes, some room around them, and not too few."""
    rows = [bar.row for bar in bars] or [60]
    low, high = min(rows) - 2, max(rows) + 2
    missing = max(0, FEWEST_ROWS - (high - low + 1))
    return low - missing // 2, high + (missing + 1) // 2


def _ticks(length: float) -> list[float]:
    """Round times, not too many."""
    sizes = (factor * 10.0**ten for ten in range(-2, 6) for factor in (1, 2, 5))
    step = next(size for size in sizes if length / size <= MOST_LABELS)
    return [step * number for number in range(int(length / step + 1e-9) + 1)]


def _legend(canvas: Canvas, given: str) -> None:
    x = WIDTH - RIGHT
    for word, colour in ((given, GIVEN), ("written", WRITTEN)):
        label = Label(x, 32, word, 13, colour=theme.MUTED, anchor="end")
        left = label.left - 22
        canvas.add(label, Rectangle(Area(left, 24, left + 16, 31), colour, radius=1.6))
        x = left - 16
