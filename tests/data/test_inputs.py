"""As many items come out as lines went in, in their order, whatever is in them and however they arrive."""

import io
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.config import UserError
from elman.data import inputs
from elman.data.inputs import Item, lines


class Drip(io.RawIOBase):
    """A pipe from which a few bytes come at a time."""

    def __init__(self, blocks: list[bytes]) -> None:
        self.blocks = [block for block in blocks if block]

    def read1(self, size: int) -> bytes:
        return self.blocks.pop(0) if self.blocks else b""


def gathered(blocks: list[bytes], most: int = 3) -> list[Item]:
    groups = list(inputs._numbered(Drip(blocks), "-", most))  # type: ignore[arg-type]
    assert all(0 < len(group) <= most for group in groups)
    return [item for group in groups for item in group]


@given(
    st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])), max_size=9),
    st.booleans(),
    st.data(),
)
def test_lines_come_back_however_they_are_cut(texts: list[str], ended: bool, data: st.DataObject) -> None:
    whole = "\n".join(texts).encode() + (b"\n" if ended and texts else b"")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    blocks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    expected = whole.decode().split("\n")
    expected = expected[:-1] if expected[-1] == "" else expected
    found = gathered(blocks)
    # A byte order mark is dropped from the first line, the return of a line that ends as on Windows from each.
    assert [item.value for item in found] == [
        line.removesuffix("\r").removeprefix("\ufeff" if place == 0 else "\0\0")
        for place, line in enumerate(expected)
    ]
    assert [item.place for item in found] == [f"-:{n}" for n in range(1, len(expected) + 1)]


def test_a_line_that_is_no_text_keeps_its_place() -> None:
    found = gathered([b"a\n\xff\xfe\n", b"\nb"])
    assert [(item.value, item.fault) for item in found] == [
        ("a", ""),
        (None, "not UTF-8 text"),
        ("", ""),
        ("b", ""),
    ]


def test_an_answer_need_not_wait_for_the_next_line() -> None:
    drip = Drip([b"one\ntwo\nth", b"ree\n"])
    groups = inputs._numbered(drip, "-", 64)  # type: ignore[arg-type]
    assert [item.value for item in next(groups)] == ["one", "two"]
    assert len(drip.blocks) == 1


def test_files_folders_and_standard_input_in_the_order_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("b.txt").write_text("1\n2\n")
    Path("f/deep").mkdir(parents=True)
    Path("f/z.txt").write_text("4")
    Path("f/.hidden").write_text("no")
    Path("f/deep/a.txt").write_text("3\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"5\n")))
    found = [item for group in lines(["b.txt", "f", "-"], 8) for item in group]
    assert [item.value for item in found] == list("12345")
    assert [item.place for item in found] == ["b.txt:1", "b.txt:2", "f/deep/a.txt:1", "f/z.txt:1", "-:1"]


@pytest.mark.parametrize(
    ("given_paths", "says"),
    [([], "nothing to read"), (["x.tx"], r"no such file or folder: x\.tx; did you mean x\.txt\?")],
)
def test_what_is_not_there_is_said_before_any_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given_paths: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.txt").write_text("1\n")
    with pytest.raises(UserError, match=says):
        next(lines(given_paths, 8))
    with pytest.raises(UserError, match="- is given twice"):
        next(lines(["x.txt", "-", "-"], 8))
