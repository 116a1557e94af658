"""Pictures of what units do: each cell has the colour of its value, names stay within the picture and apart."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman import page

CELL = re.compile(r"M([\d.]+) (\d+)h([\d.]+)v14h-[\d.]+z")
PATH = re.compile(r'<path fill="(#\w+)" d="(M[^"]*)"/>')


def cells(picture: str) -> dict[tuple[int, int], str]:
    """The colour of each cell by its row and column."""
    found, wide = {}, min(float(m[2]) for path in PATH.findall(picture) for m in CELL.findall(path[1]))
    for colour, path in PATH.findall(picture):
        for x, y, size in CELL.findall(path):
            for step in range(round(float(size) / wide)):
                found[(int(y) - 34) // 15, round((float(x) - 64) / wide) + step] = colour
    return found


def test_each_cell_has_the_colour_of_its_value() -> None:
    values = [[0.0, 1.0, -1.0, 0.5], [2.0, -9.0, math.nan, 0.01]]
    picture = page.activity_map(values, [3, 7], ["a", " ", "\n", "b"], title="h", signed=True, limit=1.0)
    found = cells(picture)
    zero, up, down = "#f4f6f9", "#0b62a8", "#c8431d"
    assert (found[0, 0], found[0, 1], found[0, 2]) == (zero, up, down)
    assert (found[1, 0], found[1, 1], found[1, 3]) == (up, down, zero)
    assert (1, 2) not in found and len(found) == 7
    assert found[0, 3] not in {zero, up}
    gates = cells(page.activity_map([[0.0, 0.5, 1.0]], [0], ["a", "b", "c"], title="f", signed=False))
    assert [gates[0, at] for at in range(3)] == ["#fafaf6", "#7ebea0", "#0a543a"]


def labels(picture: str) -> list[tuple[float, float, str, str]]:
    return [
        (float(x), float(y), anchor, words)
        for x, y, anchor, words in re.findall(
            r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)"[^>]*font-size="12">([^<]*)</text>', picture
        )
    ]


@given(st.integers(1, 120), st.integers(1, 20))
def test_names_of_samples_stay_apart_and_within(steps: int, letters: int) -> None:
    names = [str(at).rjust(letters, "x") for at in range(steps)]
    picture = page.activity_map(
        [[0.1] * steps], ["u"], names, title="h", signed=True, dense=False, x_name="rows"
    )
    own = sorted((x, words) for x, _, anchor, words in labels(picture) if anchor == "middle")
    half = max(map(len, names)) * 7.3 / 2
    assert all(half <= x <= 860 - half for x, _ in own)
    assert all(b[0] - a[0] >= 2 * half for a, b in pairwise(own))


@given(
    st.text(min_size=1, max_size=12).filter(lambda text: text.isprintable() and text.strip()),
    st.floats(-2, 2),
)
def test_text_is_shown_as_it_is_and_every_tag_is_closed(word: str, value: float) -> None:
    pieces = [
        page.activity_map([[value]], [word], [word], title=word, signed=True, x_name=word),
        page.coloured([word, "b"], [value, 0.0], 1.0, joined=" ", peak=0),
        page.lit_curve([value, 1.0], [value, value], 1.0, [word, "b"], peaks=[1], x_name=word, y_name=word),
        page.squares({word: {word: [(0.5, 0.5)]}}, word, word),
    ]
    for piece in pieces:
        assert page.text(word) in piece and "".join(ElementTree.fromstring(piece).itertext())
        assert "http" not in piece.replace(page.text(word), "")


def test_coloured_text() -> None:
    html = page.coloured(["a<", " ", "\n"], [0.5, -1.0, 0.0], 1.0, joined="", peak=1)
    spans = re.findall(r'<span style="background: rgba\(([^)]*)\)([^"]*)" title="([^"]*)">(.*?)</span>', html)
    assert [words for *_, words in spans] == ["a&lt;", " ", "↵"]
    assert [title for _, _, title, _ in spans] == ["+0.500", "-1.000", "+0.000"]
    assert [colour.rsplit(", ", 1)[1] for colour, *_ in spans] == ["0.34", "0.68", "0.00"]
    assert spans[0][0].startswith("11, 98, 168") and spans[1][0].startswith("200, 67, 29")
    assert ["outline" in style for _, style, _, _ in spans] == [False, True, False]


def test_a_curve_has_its_marks_on_the_line() -> None:
    picture = page.lit_curve([3.0, 1.0, 2.0], [0.1, 0.2, 1.0], 1.0, ["1", "2", "3"], peaks=[2])
    (points,) = re.findall(r'<polyline points="([^"]*)"', picture)
    places = [tuple(map(float, point.split(","))) for point in points.split()]
    (mark,) = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', picture)
    assert tuple(map(float, mark)) == pytest.approx(places[2])
    assert places[0][1] < places[2][1] < places[1][1]
    without = page.lit_curve([], [0.5, 0.5], 1.0, ["1", "2"])
    assert without.count("<polyline") == 1


def test_points_lie_at_their_shares() -> None:
    panels = {"f": {"one": [(0.0, 0.0), (1.0, 0.0)], "two": [(0.0, 1.0)]}, "o": {"one": [(0.5, 0.5)]}}
    picture = page.squares(panels, "open", "shut")
    left, top = 42.0, 58.0
    found = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="3"/>', picture)
    places = [(float(x), float(y)) for x, y in found]
    expected = [(left, top + 196), (left + 196, top + 196), (left, top), (left + 218 + 98, top + 98)]
    assert places == expected
    assert "one" in picture and "two" in picture


def test_decades_are_written_as_such() -> None:
    lines = [page.Line("a", [(float(k), 10.0 ** (-k)) for k in range(1, 40)], dashed=True)]
    picture = page.line_chart(lines, "steps", "share")
    words = re.findall(r'<text class="tick"[^>]*>([^<]*)</text>', picture)
    tens = [word for word in words if word.startswith("10")]
    assert 4 <= len(tens) <= 13 and "10⁻²⁰" in tens
    assert "stroke-dasharray" in picture
