"""The picture of a piano roll: each note is where its time and pitch say, and inside of the frame."""

from elman.plots import theme
from elman.plots.canvas import Rectangle
from elman.plots.png import png
from elman.plots.roll import Bar, piano_roll
from elman.plots.svg import svg


def bars_of(canvas: object) -> list[Rectangle]:
    return [
        shape
        for shape in canvas.shapes  # type: ignore[attr-defined]
        if isinstance(shape, Rectangle) and shape.fill in {theme.INPUT, theme.RECURRENT}
    ]


def test_notes_lie_where_they_sound() -> None:
    bars = [Bar(0, 2, 60), Bar(2, 4, 72), Bar(0, 4, 67, given=True)]
    canvas = piano_roll(bars, "a piece", given="melody")
    found = bars_of(canvas)[:3]
    assert [shape.fill for shape in found] == [theme.INPUT, theme.INPUT, theme.RECURRENT]
    first, second, melody = (shape.area for shape in found)
    assert first.left == melody.left < second.left
    assert abs((second.left - first.left) * 2 - (melody.right - melody.left)) < 2
    assert first.top > melody.top > second.top
    for shape in found:
        assert 0 < shape.area.left < shape.area.right <= canvas.width
        assert 0 < shape.area.top < shape.area.bottom < canvas.height
    words = {label.text for label in canvas.labels()}
    assert {"a piece", "melody", "written", "C4", "C5", "seconds"} <= words
    assert svg(canvas).startswith("<svg")
    assert png(canvas, scale=0.5)[:4] == b"\x89PNG"


def test_no_notes_are_a_picture_too() -> None:
    canvas = piano_roll([], "silence")
    assert canvas.height > 100
    assert "written" not in {label.text for label in canvas.labels()}
