"""Pretrained vectors: every text form that people have, and a sentence with the line for what is no vector."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.config import UserError
from elman.data.vectors import read_vectors

GLOVE = "the 0.5 -1 2e-3\nof 1 2 3\n. . . 4 5 6\ncafé 7 8 9\n"
WORDS = ["nothing", "café", ". . .", "the"]


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "vectors.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


FORMS = {
    "GloVe": GLOVE.encode(),
    "word2vec": ("4 3\n" + GLOVE).encode(),
    "fastText, spaces at the ends": ("4 3\n" + GLOVE.replace("\n", " \n")).encode(),
    "CRLF": GLOVE.replace("\n", "\r\n").encode(),
    "no newline at the end": GLOVE.rstrip().encode(),
    "an empty line at the end": GLOVE.encode() + b"\n",
    "gzip": gzip.compress(GLOVE.encode()),
    "a word that is no UTF-8": b"caf\xe9 9 9 9\n" + GLOVE.encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_vectors(form: str, tmp_path: Path) -> None:
    found = read_vectors(written(tmp_path, FORMS[form]), WORDS)
    assert found.numbers.tolist() == [1, 2, 3] and found.width == 3
    np.testing.assert_array_equal(
        found.rows, np.array([[7, 8, 9], [4, 5, 6], [0.5, -1, 2e-3]], dtype=np.float32)
    )
    assert found.unknown == ("nothing",)
    assert "3 of 4 words" in found.lines()[0] and "'nothing'" in found.lines()[1]


@given(
    rows=st.dictionaries(
        st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=6),
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2),
        min_size=1,
        max_size=8,
    ),
    header=st.booleans(),
)
def test_what_was_written_is_read(
    rows: dict[str, list[float]], header: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = ([f"{len(rows)} 2"] if header else []) + [f"{word} {a!r} {b!r}" for word, (a, b) in rows.items()]
    path = written(tmp_path_factory.mktemp("vectors"), "\n".join(lines) + "\n")
    found = read_vectors(path, rows, width=2)
    assert found.unknown == () and found.rows.tolist() == [list(row) for row in rows.values()]


def test_the_first_of_several_counts_and_is_told(tmp_path: Path) -> None:
    found = read_vectors(written(tmp_path, "a 1 2\nb 3 4\na 5 6\n"), ["b", "a"])
    assert found.rows.tolist() == [[3, 4], [1, 2]] and found.repeated == 1
    assert "more than once" in found.lines()[-1]


REFUSED = {
    "too few numbers": ("a 1 2 3\nb 1 2\n", 0, r"vectors.txt:2: 'b' has 2 numbers, not the 3 of line 1"),
    "too many numbers": (
        "a 1 2 3\nb 1 2 3 4\n",
        0,
        r"vectors.txt:2: 'b 1' has 4 numbers, not the 3 of line 1",
    ),
    "not as the header says": ("2 3\na 1 2 3\nb 1 2\n", 0, r"vectors.txt:3: 'b' has 2 .* header in line 1"),
    "not as asked for": ("a 1 2 3\n", 4, r"vectors.txt:1: 'a' has 3 numbers, not the 4 that are asked for"),
    "a header not as asked for": (
        "2 3\na 1 2 3\n",
        4,
        r"vectors.txt:1: the vectors have 3 numbers, not the 4",
    ),
    "no number": ("a 1 2 3\nb 1 x2 3\n", 0, r"vectors.txt:2: 'x2' in the vector of 'b'"),
    "not finite": ("a 1 2 3\nb 1 nan 3\n", 0, r"vectors.txt:2: 'nan' in the vector of 'b'"),
    "none of the words": ("x 1 2\ny 1 2\n", 0, r"for none of the 2 words"),
    "an empty file": ("", 0, r"for none of the 2 words"),
    "the binary form": (b"2 3\na \x00\x00\x80?\x00\x00\x00@", 0, "binary form"),
    "a damaged gzip file": (gzip.compress(GLOVE.encode())[:-9], 0, "cannot read the vectors"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_vector_is_named_with_its_line(case: str, tmp_path: Path) -> None:
    text, width, sentence = REFUSED[case]
    with pytest.raises(UserError, match=sentence):
        read_vectors(written(tmp_path, text), ["a", "b"], width=width)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.txt: No such file"):
        read_vectors(tmp_path / "nowhere.txt", ["a"])
