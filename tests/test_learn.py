"""The pages of docs/learn: their code runs as printed, and what it prints and draws is what they show."""

import math
import re
import runpy
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "learn"
PICTURES = ROOT / "docs" / "pictures" / "learn"
MAKE = runpy.run_path(str(FOLDER / "make.py"))
ORDER: list[Path] = MAKE["pages"]()
PAGES = pytest.mark.parametrize("page", ORDER, ids=lambda page: page.stem)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
# Seconds of processor time: a page takes less than two, and on a machine that is busy with other things more.
LONGEST = 4.0
# Pixels. Where a page trains a network, another processor rounds otherwise, and a curve moves a little.
NEAR = 10.0


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """What torch and matplotlib load at their first use is no part of a page."""
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.sum().backward()
    torch.optim.Adam([weight]).step()
    from elman.plots.text import width

    width("a", 12.0, "math")


def numbers(text: str) -> list[float]:
    return [float(number) for number in NUMBER.findall(text)]


def assert_like(ours: str, theirs: str, *, near: float, relative: float = 0.0) -> None:
    """The same words, and numbers close to each other."""
    assert NUMBER.sub("#", ours) == NUMBER.sub("#", theirs)
    for a, b in zip(numbers(ours), numbers(theirs), strict=True):
        assert math.isclose(a, b, rel_tol=relative, abs_tol=near), (ours, theirs)


def drawn(picture: Path) -> list[tuple[str, str]]:
    """Each element with its text, or its place; letters of formulas by their text alone."""
    found = []
    for element in ET.parse(picture).getroot().iter():
        tag = element.tag.rpartition("}")[2]
        if tag in {"text", "title"}:
            found.append((tag, element.text or ""))
        elif element.get("aria-label"):
            found.append((tag, element.get("aria-label", "")))
        elif tag in {"rect", "circle"}:
            places = (element.get(name) or "" for name in ("x", "y", "width", "height", "cx", "cy"))
            found.append((tag, " ".join(places)))
        elif tag == "path" and not element.get("id"):
            found.append((tag, element.get("d", "")))
    return found


@PAGES
def test_a_page_runs_as_printed(page: Path, tmp_path: Path) -> None:
    before = time.process_time()
    printed = MAKE["run"](page, tmp_path)
    assert time.process_time() - before < LONGEST
    blocks = list(MAKE["CODE"].finditer(page.read_text(encoding="utf-8")))
    for ours, block in zip(printed, blocks, strict=True):
        assert_like(ours, block["printed"] or "", near=0.06, relative=0.1)
    made = sorted(path.name for path in tmp_path.iterdir())
    shown = re.findall(r"\]\(\.\./pictures/learn/([^)]+)\)", page.read_text(encoding="utf-8"))
    assert made == sorted(shown)
    for name in made:
        ours, theirs = drawn(tmp_path / name), drawn(PICTURES / name)
        assert [tag for tag, _ in ours] == [tag for tag, _ in theirs]
        for (tag, mine), (_, other) in zip(ours, theirs, strict=True):
            assert_like(mine, other, near=NEAR if tag in {"rect", "circle", "path"} else 0.0)


def test_every_page_is_reached_and_listed() -> None:
    names = [page.stem for page in ORDER]
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\d+\. \[[^]]+\]\((\w+)\.md\)", index, re.MULTILINE) == names
    assert sorted(names) == sorted(page.stem for page in FOLDER.glob("*.md") if page.stem != "README")
    shown = {
        name for page in ORDER for name in re.findall(r"pictures/learn/([^)]+)\)", page.read_text("utf-8"))
    }
    assert shown == {path.name for path in PICTURES.iterdir()}


@PAGES
def test_a_page_has_its_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    parts = ["## The equation", "## In code", "## Try", "## From", "Next: ["]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    equation = text[places[0] : places[1]]
    assert re.search(r"^    \S", equation, re.MULTILINE)
    assert "| symbol | shape | what |" in equation
    assert re.search(r"<details><summary>Answer</summary>\n\n.+\n\n</details>", text, re.DOTALL)
    assert "](https://" in text[places[3] :]
    blocks = [block["code"] for block in MAKE["CODE"].finditer(text)]
    assert all(code.count("\n") <= 50 for code in blocks)
