"""Schemes of spans, over drawn ones; seqeval, which is conlleval in Python, is the oracle of how tags are read."""

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES, Entities

from elman.data.schemes import TagSpan, allowed, recognize, spans_of, split_tag, tags_of

SCHEMES = ["io", "iob1", "bio", "bioes", "bilou"]
STRICT = {"iob1": IOB1, "bio": IOB2, "bioes": IOBES, "bilou": BILOU}


@st.composite
def marked(draw: st.DrawFn) -> tuple[list[TagSpan], int]:
    """Spans that do not overlap, and the length of their sentence."""
    spans, at = [], 0
    for gap, length, kind in draw(
        st.lists(
            st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(["PER", "LOC", "X-Y", ""])),
            max_size=5,
        )
    ):
        spans.append(TagSpan(at + gap, at + gap + length, kind))
        at += gap + length
    return spans, at + draw(st.integers(0, 2))


@pytest.mark.parametrize("scheme", SCHEMES[1:])
@given(case=marked())
def test_spans_to_tags_and_back(scheme: str, case: tuple[list[TagSpan], int]) -> None:
    spans, length = case
    tags = tags_of(spans, length, scheme)
    assert len(tags) == length
    assert spans_of(tags) == spans


@given(case=marked())
def test_io_runs_neighbours_of_one_kind_together(case: tuple[list[TagSpan], int]) -> None:
    spans, length = case
    joined: list[TagSpan] = []
    for span in spans:
        if joined and joined[-1].end == span.start and joined[-1].kind == span.kind:
            joined[-1] = joined[-1]._replace(end=span.end)
        else:
            joined.append(span)
    assert spans_of(tags_of(spans, length, "io")) == joined


@pytest.mark.parametrize("scheme", list(STRICT))
@given(case=marked())
def test_sound_tags_are_read_as_seqeval_reads_them_strictly(
    scheme: str, case: tuple[list[TagSpan], int]
) -> None:
    spans, length = case
    tags = tags_of([span._replace(kind=span.kind or "N") for span in spans], length, scheme)
    (own,) = Entities([tags], STRICT[scheme]).entities
    assert [(found.start, found.end, found.tag) for found in own] == [tuple(span) for span in spans_of(tags)]


TAGS = ["O", *(f"{letter}-{kind}" for letter in "BIES" for kind in ("PER", "LOC"))]


@given(tags=st.lists(st.sampled_from(TAGS), max_size=9))
def test_any_tags_are_read_as_conlleval_reads_them(tags: list[str]) -> None:
    assert [(kind, start, end - 1) for start, end, kind in spans_of(tags)] == get_entities(tags)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(cases=st.lists(marked(), min_size=1, max_size=8))
def test_the_scheme_is_recognized_or_the_spans_are_the_same(
    scheme: str, cases: list[tuple[list[TagSpan], int]]
) -> None:
    rows = [tags_of(spans, length, scheme) for spans, length in cases]
    found = recognize(rows)
    if not any(tag != "O" for row in rows for tag in row):
        assert found is None
        return
    assert found is not None
    assert [tags_of(spans_of(row), len(row), found) for row in rows] == rows


def test_each_scheme_is_told_from_the_others() -> None:
    spans = [TagSpan(0, 2, "X"), TagSpan(2, 3, "X"), TagSpan(4, 7, "Y")]
    for scheme in SCHEMES:
        assert recognize([tags_of(spans, 8, scheme)]) == scheme
    assert recognize([["NOUN", "VERB"]]) is None
    assert recognize([["O", "O"]]) is None
    assert recognize([["B", "I", "O"], ["O", "B"]]) == "bio"
    assert split_tag("M-X") == ("I", "X")
    assert split_tag("B_PER") == ("B", "PER")
    assert split_tag("NN") is None


@pytest.mark.parametrize("scheme", SCHEMES)
def test_allowed_is_what_spans_give(scheme: str) -> None:
    """Every sequence of up to four tags: allowed in each step if and only if it is the writing of some spans."""
    letters = sorted({tag[0] for tag in tags_of([TagSpan(0, 1, "X"), TagSpan(1, 4, "X")], 4, scheme)})
    tags = ["O", *(f"{letter}-{kind}" for kind in ("X", "Y") for letter in letters)]
    rule = allowed(tags, scheme)
    for length in (1, 2, 3):
        for numbers in product(range(len(tags)), repeat=length):
            row = [tags[number] for number in numbers]
            said = (
                rule.first[numbers[0]]
                and rule.last[numbers[-1]]
                and all(rule.pairs[a, b] for a, b in pairwise(numbers))
            )
            assert said == (tags_of(spans_of(row), length, scheme) == row), row


def test_what_is_no_tag_of_a_span_is_said() -> None:
    with pytest.raises(ValueError, match="'NN' marks no span"):
        spans_of(["O", "NN"])
