"""Charts, heat maps and networks at a glance: what they show stands where its number says."""

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from elman.config import UserError
from elman.nn import GRU, RNN
from elman.plots import draw, draw_shapes, drawing_of, heat_map, line_chart
from elman.plots.chart import BOTTOM, LEFT, RIGHT, TOP, Axis
from elman.plots.heat import DOWN, UP, ZERO, colour

SVG = "{http://www.w3.org/2000/svg}"


def words(picture: Path) -> list[str]:
    return [element.text or "" for element in ET.parse(picture).getroot().iter(f"{SVG}text")]


def curves(picture: Path) -> list[list[tuple[float, float]]]:
    """The points of the lines of a chart, without those of its frame."""
    paths = [
        path for path in ET.parse(picture).getroot().iter(f"{SVG}path") if path.get("stroke-width") == "2.4"
    ]
    return [
        [(float(x), float(y)) for x, y in re.findall(r"([\d.]+),([\d.]+)", path.get("d", ""))]
        for path in paths
    ]


@settings(max_examples=40, deadline=None)
@given(
    low=st.floats(-1e4, 1e4),
    size=st.floats(1e-3, 1e6),
    most=st.integers(2, 10),
)
def test_ticks_are_few_round_and_inside(low: float, size: float, most: int) -> None:
    axis = Axis(low, low + size, 0.0, 100.0)
    values = [value for value, _ in axis.ticks(most)]
    assert len(values) <= most + 1
    assert all(low - 1e-6 * size <= value <= low + 1.000001 * size for value in values)
    steps = {round((b - a) / size, 6) for a, b in pairwise(values)}
    assert len(steps) <= 1


def test_lines_go_through_their_points(tmp_path: Path) -> None:
    values = {"up": [0.0, 5.0, 10.0], "down": {0: 10.0, 1: math.nan, 2: 0.0}}
    made = line_chart(values, tmp_path / "chart.svg", title="Two lines", x="step", y="size", from_zero=True)
    up, down = curves(made)
    assert [x for x, _ in up] == pytest.approx([LEFT, (LEFT + RIGHT) / 2, RIGHT])
    assert up[0][1] == pytest.approx(BOTTOM) and up[2][1] == pytest.approx(down[0][1])
    assert up[1][1] == pytest.approx((up[0][1] + up[2][1]) / 2, abs=0.01)
    assert len(down) == 2  # what is not finite is left out
    assert {"Two lines", "up", "down", "step", "size"} <= set(words(made))


def test_a_logarithmic_axis_is_even_in_powers(tmp_path: Path) -> None:
    line = torch.tensor([1.0, 10.0, 0.0, 100.0], requires_grad=True)
    made = line_chart({"": line}, tmp_path / "chart.svg", title="Powers", log=True)
    (points,) = curves(made)
    assert [y for _, y in points] == pytest.approx([BOTTOM, (BOTTOM + TOP) / 2, TOP])


def test_colours_go_from_end_to_end() -> None:
    assert (colour(-1), colour(0), colour(1)) == (DOWN, ZERO, UP)
    assert colour(7) == UP
    reds = [int(colour(part / 10)[1:3], 16) for part in range(11)]
    assert reds == sorted(reds, reverse=True)


def test_a_cell_has_the_colour_of_its_number(tmp_path: Path) -> None:
    matrix = torch.tensor([[2.0, 0.0], [-1.0, 1.0]])
    made = heat_map(
        matrix, tmp_path / "map.svg", title="Numbers", rows="ab", columns=["c", "d"], x="x", y="y"
    )
    text = made.read_text(encoding="utf-8")
    for number in matrix.flatten().tolist():
        assert colour(number / 2) in text
    assert {"a", "b", "c", "d", "x", "rows: y", "−2", "2"} <= set(words(made))


def test_pictures_are_of_both_forms(tmp_path: Path) -> None:
    network = drawing_of([RNN(3, 4), nn.Linear(4, 2)], title="Small", steps=5)
    for made in (
        line_chart({"a": [1.0]}, tmp_path / "chart.png", title="One point"),
        heat_map([[0.0]], tmp_path / "map.png", title="Zero"),
        draw(network, tmp_path / "network.png"),
        draw_shapes([network], tmp_path / "shapes.png", title="One"),
    ):
        assert made.read_bytes().startswith(b"\x89PNG")


def test_a_glance_shows_who_reads_and_who_writes(tmp_path: Path) -> None:
    layers = [GRU(3, 4), nn.Linear(4, 2)]
    networks = [
        drawing_of(layers, title="a", steps=1),
        drawing_of(layers, title="b", steps=9, reads="first"),
        drawing_of(layers, title="c", steps=9, writes="last"),
        drawing_of(layers, title="d", steps=2),
    ]
    made = draw_shapes(networks, tmp_path / "shapes.svg", title="Four")
    shapes = [word for word in words(made) if " to " in word]
    assert shapes == ["one to one", "one to many", "many to one", "many to many"]
    boxes = [r for r in ET.parse(made).getroot().iter(f"{SVG}rect") if r.get("width") == "30"]
    # inputs, states, outputs: 1 + 1 + 1, 1 + 3 + 3, 3 + 3 + 1, 2 + 2 + 2
    assert len(boxes) == 3 + 7 + 7 + 6


def test_a_drawing_reads_sizes_from_the_modules() -> None:
    network = drawing_of([nn.Embedding(50, 8), GRU(8, 4), nn.Linear(4, 3)], title="Tags", steps=7, batch=2)
    (stack,) = network.stacks
    assert (stack.input.size, stack.output.size, stack.output.letter, stack.steps) == (None, 3, "K", 7)
    assert network.parameters == 50 * 8 + 12 * 8 + 12 * 4 + 24 + 3 * 4 + 3


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda p: line_chart({}, p / "a.svg", title=""), ValueError, "points to show"),
        (lambda p: line_chart({"a": [0.0]}, p / "a.svg", title="", log=True), ValueError, "'a'"),
        (lambda p: line_chart({"a": [1]}, p / "a.gif", title=""), UserError, "a.gif"),
        (lambda p: heat_map([[1, 2], [3]], p / "a.svg", title=""), ValueError, r"\[1, 2\]"),
        (lambda p: heat_map([], p / "a.svg", title=""), ValueError, "none"),
        (
            lambda p: heat_map([[1, 2]], p / "a.svg", title="", columns="a"),
            ValueError,
            "1 names for 2 columns",
        ),
        (lambda p: draw_shapes([], p / "a.svg", title=""), ValueError, "no network"),
        (lambda p: drawing_of([nn.Identity()], title="nothing", steps=1), ValueError, "nothing"),
    ],
)
def test_what_cannot_be_drawn_is_said(call, error, words, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=words):
        call(tmp_path)
    assert not list(tmp_path.iterdir())
