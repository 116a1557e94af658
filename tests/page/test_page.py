"""Pages: what is text stays text, what is a name stays its own, and nothing is asked of a network."""

import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman import page
from elman.page.chart import _words, thinned, ticks


class Reader(HTMLParser):
    """The text of a page, and whether every tag is closed in its turn."""

    ALONE = frozenset({"meta", "line", "polyline", "circle"})

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.ALONE:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@given(st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable() and text.strip()))
def test_text_is_shown_as_it_is(words: str) -> None:
    drawn = page.line_chart([page.Line(words, [(1, 2.0)]), page.Line("b", [(1, 3.0)])], words, words)
    whole = page.document(
        words,
        [words],
        [
            page.Section.of(
                words, page.paragraph(words), page.preformatted(words), page.facts({words: words})
            ),
            page.Section.of(
                "", page.table([words, "n"], [[words, 3]]), page.details(words, page.text(words))
            ),
            page.Section.of(
                "",
                page.matrix([words], [words], [[1]], words),
                page.figure(drawn, words),
                page.columns(words),
            ),
        ],
        words,
    ).replace(f"<div>{words}</div>", "")
    read = Reader(whole)
    assert read.open == []
    assert read.words.count(words) >= 17


def test_names_of_two_pictures_never_meet() -> None:
    svg = (
        '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        '<metadata>http://purl.org</metadata><path id="g0" fill="#fff000"/><use xlink:href="#g0" clip-path="url(#c)"/>'
    )
    first, second = page.inline(svg, "a"), page.inline(svg, "b")
    assert 'id="a-g0"' in first
    assert 'xlink:href="#a-g0" clip-path="url(#a-c)"' in first
    assert 'fill="#fff000"' in first
    assert "http" not in first + second
    assert not set(re.findall(r'id="([^"]*)"', first)) & set(re.findall(r'id="([^"]*)"', second))


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_round_and_inside(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-6 * width - 1e-9 <= value <= low + width * (1 + 1e-6) + 1e-9 for value in found)


@given(st.floats(1e-6, 1e3), st.floats(21, 1e6))
def test_logarithmic_ticks_are_inside(low: float, factor: float) -> None:
    found = ticks(low, low * factor, log=True)
    assert found
    assert all(low <= value <= low * factor for value in found)


@pytest.mark.parametrize(
    "values", [[1.0], [0.0, 0.0], [5.0, 5.0], [1e-9, 1e9], [-3.0, 4.0], [1.0, math.nan, 2.0], [1.0, math.inf]]
)
def test_a_chart_of_any_values_stays_inside_its_frame(values: list[float]) -> None:
    drawn = page.line_chart([page.Line("a", list(enumerate(values)))], "x", "y")
    places = [float(y) for y in re.findall(r"[ \"][\d.]+,([\d.-]+)", drawn)]
    assert places
    assert all(0 <= y <= 340 for y in places)


def test_a_chart_of_nothing_is_nothing() -> None:
    assert page.line_chart([], "x", "y") == ""
    assert page.line_chart([page.Line("a", [(1, math.nan)])], "x", "y") == ""


def test_many_points_become_few_with_both_ends() -> None:
    points = [(float(i), 0.0) for i in range(5000)]
    found = thinned(points)
    assert len(found) == 400
    assert (found[0], found[-1]) == (points[0], points[-1])


def test_numbers_of_a_column_have_as_many_decimals() -> None:
    shown = page.table(["a", "b", "c", "d"], [["x", 0.92, 1234, "1"], ["y", 0.9284, 5, 2.0]])
    assert '<td class="number">0.920</td>' in shown
    assert '<td class="number">0.928</td>' in shown
    assert '<td class="number">1,234</td>' in shown
    assert "<td>2</td>" in shown


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.5, 1.0, 1.5], ["0.5", "1.0", "1.5"]),
        ([0, 500, 1000], ["0", "500", "1,000"]),
        ([0.93, 0.935], ["0.930", "0.935"]),
        ([0, 2e6], ["0", "2e+06"]),
        ([1e-5, 2e-5], ["1e-05", "2e-05"]),
    ],
)
def test_numbers_of_an_axis_have_as_many_decimals(values: list[float], words: list[str]) -> None:
    assert _words(values) == words
