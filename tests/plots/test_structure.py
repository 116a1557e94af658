"""The pictures of a model: what they say, and that it can be read."""

import runpy
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest

from elman.plots import ModelDrawing, draw_model, theme
from elman.plots.basic import basic
from elman.plots.canvas import Area, Canvas, Line, Rectangle, crossings
from elman.plots.svg import svg
from elman.plots.text import plain
from elman.plots.unfolded import unfolded
from tests.plots.examples import (
    EXAMPLES,
    encoder_decoder,
    language_model,
    many_to_one,
    one_to_many,
    residual_stack,
)

PICTURES_FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
SVG = "{http://www.w3.org/2000/svg}"
PICTURES = pytest.mark.parametrize("draw", [basic, unfolded])
MODELS = pytest.mark.parametrize("drawing", EXAMPLES.values(), ids=EXAMPLES)
Draw = Callable[[ModelDrawing], Canvas]


def texts(canvas: Canvas) -> list[str]:
    return [plain(label.text) for label in canvas.labels()]


def inside(inner: Area, outer: Area) -> bool:
    return (
        outer.left <= inner.left
        and inner.right <= outer.right
        and outer.top <= inner.top
        and inner.bottom <= outer.bottom
    )


@PICTURES
@MODELS
def test_no_text_meets_another(draw: Draw, drawing: ModelDrawing) -> None:
    pairs = combinations(draw(drawing).labels(), 2)
    meeting = [(a.text, b.text) for a, b in pairs if a.area.meets(b.area)]
    assert not meeting


@PICTURES
@MODELS
def test_no_line_runs_through_text(draw: Draw, drawing: ModelDrawing) -> None:
    canvas = draw(drawing)
    # the descenders of a name above an arrow may come near it
    areas = {label.area._replace(bottom=label.y + 1): label.text for label in canvas.labels()}
    boxes = [shape.area for shape in canvas.shapes if isinstance(shape, Rectangle) and shape.fill != "none"]
    for line in canvas.shapes:
        if isinstance(line, Line):
            struck = [areas[area] for area in crossings(line, areas)]
            # a loop runs behind the box of its delay, which hides it
            hidden = [
                text
                for area, text in areas.items()
                if text == "delay" and any(inside(area, b) for b in boxes)
            ]
            assert set(struck) <= set(hidden), line


@PICTURES
@MODELS
def test_text_lies_within_its_box_and_the_sheet(draw: Draw, drawing: ModelDrawing) -> None:
    canvas = draw(drawing)
    sheet = Area(20, 20, canvas.width - 20, canvas.height - 12)
    for label in canvas.labels():
        assert inside(label.area, sheet), label.text
        for shape in canvas.shapes[2:]:
            if isinstance(shape, Rectangle) and shape.area.meets(label.area):
                assert inside(label.area, shape.area), label.text


@PICTURES
@MODELS
def test_boxes_lie_on_the_grid(draw: Draw, drawing: ModelDrawing) -> None:
    boxes = [s.area for s in draw(drawing).shapes[2:] if isinstance(s, Rectangle)]
    overlapping = [pair for pair in combinations(boxes, 2) if pair[0].meets(pair[1])]
    assert not overlapping


@PICTURES
@MODELS
def test_lines_are_horizontal_or_vertical(draw: Draw, drawing: ModelDrawing) -> None:
    for line in draw(drawing).shapes:
        if isinstance(line, Line):
            for (x0, y0), (x1, y1) in zip(line.points, line.points[1:], strict=False):
                assert x0 == pytest.approx(x1) or y0 == pytest.approx(y1)


@PICTURES
@MODELS
def test_svg_is_sound(draw: Draw, drawing: ModelDrawing) -> None:
    canvas = draw(drawing)
    root = ET.fromstring(svg(canvas))
    assert root.tag == f"{SVG}svg"
    names = {element.get("id") for element in root.iter(f"{SVG}path")}
    used = {str(element.get("href")).removeprefix("#") for element in root.iter(f"{SVG}use")}
    assert used <= names
    said = [text.text for text in root.iter(f"{SVG}text")] + [
        g.get("aria-label") for g in root.iter(f"{SVG}g")
    ]
    assert sorted(map(str, said)) == sorted(texts(canvas))
    assert not {"style", "script", "image"} & {element.tag.removeprefix(SVG) for element in root.iter()}


def test_names_are_escaped() -> None:
    drawing = ModelDrawing('a < b & "c"', language_model().stacks, 1)
    assert ET.fromstring(svg(basic(drawing))).findtext(f"{SVG}title") == 'a < b & "c": basic structure'


def test_basic_says_shapes_counts_and_state() -> None:
    said = texts(basic(language_model()))
    for text in [
        "(T, B, I)",
        "35 × 20 × 200",
        "(T, B, K)",
        "35 × 20 × 10,000",
        "800 × 200",
        "800 + 800",
        "delay",
    ]:
        assert text in said
    # 10,000 × 200 + 2 × (2 × 800 × 200 + 2 × 800) + 400 + 200 × 10,000 + 10,000
    assert "4,653,600" in said
    assert "18.6 MB as float32" in said
    assert "state h, c: 2 × 200 (1.6 kB)" in said
    assert "800 numbers" in said
    assert "16,000 numbers" in said


def test_tied_weights_are_shown_and_not_counted() -> None:
    drawing = language_model(tied=True)
    said = texts(basic(drawing))
    assert "V = E" in said
    assert "tied to E" in said
    assert drawing.parameters == 2_653_600
    assert "V = E" in texts(unfolded(drawing))


def test_each_step_uses_the_same_weights() -> None:
    canvas = unfolded(language_model())
    said = texts(canvas)
    for index in ["1", "t−1", "t", "t+1", "T"]:
        assert f"x{index}" in said
        assert f"h{index}  c{index}" in said
    for name in ["E", "U1", "U2", "V"]:
        # once at each drawn step and once above the bracket; V has no other meaning
        marked = [
            shape for shape in canvas.labels() if plain(shape.text) == name and shape.colour != theme.INK
        ]
        assert len(marked) == 6
        assert len({label.colour for label in marked}) == 1
    assert "T = 35" in said
    assert said.count("W1") == 1 + 7


def test_unfolded_says_what_grows_with_time() -> None:
    short, long = (texts(unfolded(language_model(steps=steps))) for steps in (10, 1000))
    assert "10 × 20" not in short
    assert {"4,653,600", "16,000", "160,000"} <= set(short)
    assert {"4,653,600", "16,000", "16,000,000"} <= set(long)


def test_what_is_read_or_said_once_does_not_grow_with_time() -> None:
    for drawing, fixed in (
        (many_to_one(), {"weights", "state", "output"}),
        (one_to_many(), {"weights", "state", "input"}),
    ):
        found = unfolded(drawing).labels()
        heads = {
            label.text: label for label in found if label.text.startswith(("the same for", "grows with"))
        }
        assert len(heads) == 2
        right = max(label.x for label in heads.values())
        below = [label for label in found if label.y > max(head.y for head in heads.values())]
        names = {"weights", "state", "input", "output", "states of all steps"}
        cards = {label.text: label.x < right for label in below if label.text in names}
        assert cards.keys() == names
        assert {name for name, left in cards.items() if left} == fixed


def test_few_steps_are_all_drawn() -> None:
    said = texts(unfolded(language_model(steps=3)))
    assert {"x1", "x2", "x3", "y3"} <= set(said)
    assert "xt" not in said


def test_two_directions_run_against_each_other() -> None:
    canvas = unfolded(residual_stack(bidirectional=True))
    state = [line for line in canvas.shapes if isinstance(line, Line) and line.arrow and line.halo]
    rightwards = {line.points[-1][0] > line.points[0][0] for line in state}
    assert rightwards == {True, False}
    assert {"h′1  c′1", "h′T+1, c′T+1", "h0, c0"} <= set(texts(canvas))


def test_shapes_of_networks() -> None:
    assert language_model().shape == "many to many"
    assert residual_stack(steps=1).shape == "one to one"
    assert one_to_many().shape == "one to many"
    assert many_to_one().shape == "many to one"
    assert encoder_decoder().shape == "encoder-decoder"
    said = texts(unfolded(one_to_many()))
    assert "x1" in said
    assert "xt" not in said
    said = texts(unfolded(many_to_one()))
    assert "yT" in said
    assert "y1" not in said
    said = texts(unfolded(encoder_decoder()))
    assert {"xS", "y1", "yT", "hS"} <= set(said)


def test_files(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    paths = draw_model(language_model(), folder)
    assert [path.name for path in paths] == ["basic.svg", "basic.png", "unfolded.svg", "unfolded.png"]
    assert sorted(folder.iterdir()) == sorted(paths)
    for path in paths[1::2]:
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        root = ET.fromstring(path.with_suffix(".svg").read_text(encoding="utf-8"))
        size = [2 * int(root.get(side, "")) for side in ("width", "height")]
        assert list(struct.unpack(">II", data[16:24])) == size


def test_files_are_the_same_each_time(tmp_path: Path) -> None:
    first, second = (draw_model(language_model(), tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_pictures_of_the_documentation_are_those_of_their_script(tmp_path: Path) -> None:
    names = runpy.run_path(str(PICTURES_FOLDER / "make.py"))
    made = names["make"](tmp_path)
    kept = sorted(path.name for path in PICTURES_FOLDER.glob("*_*.svg"))
    assert sorted(path.name for path in made) == kept
    for path in made:
        # outlines of letters may differ from one matplotlib to the next, words may not
        ours, theirs = (ET.parse(file).getroot() for file in (path, PICTURES_FOLDER / path.name))
        assert [text.text for text in ours.iter(f"{SVG}text")] == [
            text.text for text in theirs.iter(f"{SVG}text")
        ]


def test_importing_is_light() -> None:
    code = "import sys, elman.plots; print(*({'torch', 'matplotlib', 'numpy'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == ""
