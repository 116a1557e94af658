"""Networks at a glance, side by side: when each reads, carries and writes, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from elman.plots import theme
from elman.plots.canvas import Area, Canvas, Label, Line, Rectangle, arrow, centred
from elman.plots.drawing import ModelDrawing, Stack
from elman.plots.files import save
from elman.plots.text import width

__all__ = ["draw_shapes"]

MARGIN, GAP = 36.0, 54.0
COLUMN, FED, BOX = 54.0, 74.0, 30.0
OUTPUT, STATE, INPUT = 116.0, 186.0, 256.0
HEIGHT = 356.0
MOST = 3
PARTS = ((theme.FILLS["dense"], "output"), (theme.FILLS["recurrent"], "state"), ("#e7f0f8", "input"))


def draw_shapes(drawings: Sequence[ModelDrawing], picture: Path | str, *, title: str) -> Path:
    """Draw some networks side by side as boxes of input, state and output, at most three steps of each stack.

    A second stack is fed with what it wrote at the step before.

    Args:
        drawings: the networks; each panel has the name of its shape and its title.
        picture: where to write, ending in .svg or .png.
        title: stands above.

    Returns:
        The path of the picture.

    Raises:
        ValueError: no network.
        UserError: another ending.
    """
    if not drawings:
        raise ValueError("no network to draw")
    canvas = Canvas(title)
    canvas.add(Label(MARGIN, 50, title, theme.TITLE, bold=True))
    x = MARGIN
    for drawing in drawings:
        wide = max(
            _places(drawing)[-1] + BOX,
            width(drawing.shape, theme.SMALL, bold=True),
            width(drawing.title, theme.SMALL),
        )
        _panel(canvas, drawing, x, wide)
        x += wide + GAP
    right = x - GAP
    _legend(canvas, right)
    return save(canvas.close((right + MARGIN, HEIGHT)), picture)


def _columns(stack: Stack) -> range:
    return range(min(stack.steps, MOST))


def _places(drawing: ModelDrawing) -> list[float]:
    """Where the columns stand, from that of the first one; those that are fed from the side have more room."""
    places = [COLUMN * step for step in _columns(drawing.stacks[0])]
    for stack in drawing.stacks[1:]:
        start = places[-1] + COLUMN
        places += [start + FED * step for step in _columns(stack)]
    return places


def _panel(canvas: Canvas, drawing: ModelDrawing, left: float, wide: float) -> None:
    columns = [(stack, step) for stack in drawing.stacks for step in _columns(stack)]
    places = _places(drawing)
    start = left + (wide - places[-1]) / 2
    for place, (stack, step) in enumerate(columns):
        x, fed = start + places[place], stack is not drawing.stacks[0]
        if fed and step:
            _feed(canvas, x)
        if place:
            before = start + places[place - 1] + BOX / 2
            canvas.add(arrow((before, STATE), (x - BOX / 2, STATE), colour=theme.RECURRENT, halo=theme.PAPER))
        if not fed and (stack.reads == "every" or step == 0):
            canvas.add(arrow((x, INPUT - BOX / 2), (x, STATE + BOX / 2), colour=theme.INPUT))
            _box(canvas, x, INPUT, PARTS[2][0])
        if stack.writes == "every" or (stack.writes == "last" and step == _columns(stack)[-1]):
            canvas.add(arrow((x, STATE - BOX / 2), (x, OUTPUT + BOX / 2), colour=theme.OUTPUT))
            _box(canvas, x, OUTPUT, PARTS[0][0])
        _box(canvas, x, STATE, PARTS[1][0])
    middle = left + wide / 2
    name = Label(middle, HEIGHT - 50, drawing.shape, theme.SMALL, anchor="middle", bold=True)
    canvas.add(name, centred(middle, HEIGHT - 30, drawing.title, size=theme.SMALL, colour=theme.MUTED))


def _box(canvas: Canvas, x: float, y: float, fill: str) -> None:
    half = BOX / 2
    canvas.add(Rectangle(Area(x - half, y - half, x + half, y + half), fill, theme.INK, radius=5))


def _feed(canvas: Canvas, x: float) -> None:
    """What was written at the step before goes in at this one."""
    lane, below = x - FED / 2 - 4, STATE + BOX / 2 + 24
    points = (
        (x - FED + BOX / 2, OUTPUT),
        (lane, OUTPUT),
        (lane, below),
        (x, below),
        (x, STATE + BOX / 2),
    )
    canvas.add(Line(points, theme.MUTED, dash=(4, 3), arrow=True))


def _legend(canvas: Canvas, right: float) -> None:
    for fill, word in PARTS:
        label = Label(right, 50, word, theme.SMALL, colour=theme.MUTED, anchor="end")
        left = label.left - 22
        canvas.add(label, Rectangle(Area(left, 38, left + 14, 52), fill, theme.INK, radius=3))
        right = left - 18
