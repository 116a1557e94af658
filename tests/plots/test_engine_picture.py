"""The picture of a call's path, and the page that shows it: they are as drawn, and name what there is."""

import re
import runpy
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path

import pytest

from elman.plots.canvas import Canvas, Line, crossings
from elman.plots.svg import svg
from elman.plots.text import plain

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "src" / "elman" / "engine"
PAGE = (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"


def without_comments(path: Path) -> str:
    return re.sub(r"(//|# ).*", "", path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def canvas() -> Canvas:
    return runpy.run_path(str(ROOT / "docs/pictures/engine.py"))["draw"]()


def test_the_kept_picture_is_the_drawn_one(canvas: Canvas) -> None:
    """In words: outlines of letters may differ from one matplotlib to the next."""
    kept = ET.parse(ROOT / "docs/pictures/engine.svg").getroot()
    drawn = ET.fromstring(svg(canvas))
    assert [t.text for t in drawn.iter(f"{SVG}text")] == [t.text for t in kept.iter(f"{SVG}text")]


def test_it_can_be_read(canvas: Canvas) -> None:
    labels = canvas.labels()
    assert not [(a.text, b.text) for a, b in combinations(labels, 2) if a.area.meets(b.area)]
    lines = [shape for shape in canvas.shapes if isinstance(shape, Line)]
    assert not [line for line in lines if crossings(line, [label.area for label in labels])]
    assert all(a.left > 0 and a.right < canvas.width for a in (label.area for label in labels))


def test_it_names_files_that_are_there(canvas: Canvas) -> None:
    named = {
        name for label in canvas.labels() for name in re.findall(r"\w+/\w+\.py|\w+/$", plain(label.text))
    }
    assert len(named) >= 9
    assert not [name for name in named if not (ENGINE / name).exists()]


def test_each_folder_has_its_line() -> None:
    folders = {path.parent.name for path in ENGINE.glob("*/__init__.py")}
    table = PAGE[PAGE.index("## Folders") :].split("\n## ")[0]
    firsts = " ".join(row.split("|")[1] for row in re.findall(r"^\|.*", table, re.MULTILINE))
    assert folders == set(re.findall(r"`(\w+)/`", firsts))


def test_an_operation_stands_where_the_page_says() -> None:
    """`erf` and `cumsum`, and no other file of the core or of what runs programs has their names."""
    text = PAGE[PAGE.index("## An operation") :]
    names = set(re.findall(r"`([\w/]+\.(?:py|h|cpp))`", text))
    told = {path for name in names for home in (ROOT, ENGINE) if (path := home / name).is_file()}
    assert len(told) == len(names)
    folders = (ROOT / "csrc", ENGINE / "backends", ENGINE / "lowering")
    code = {p for folder in folders for p in folder.rglob("*") if p.suffix in {".h", ".cpp", ".py"}}
    for op, places in (("erf", 9), ("cumsum", 11)):
        there = {path for path in told | code if re.search(rf"\b{op}\b", without_comments(path))}
        assert there <= told, op
        assert len(there) == places, op
