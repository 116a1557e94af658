"""Documents of any kind: what of a text is one, and their order in an epoch."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.config import UserError
from elman.data.corpus import CorpusSettings, read_corpus
from elman.data.documents import Kind, Shuffled, columns_of, ends_of
from elman.data.documents import cut as cut_pieces

FASTA = "; a remark\n>one\nACGT\nAC\n>two\nGG\n\n>three\nT\n"


def cut(text: str, kind: Kind, *, chunk: int = 3, **given: str) -> list[str]:
    """The documents of a text that comes in chunks."""
    chunks = (text[at : at + chunk] for at in range(0, len(text), chunk))
    found = [""]
    for piece in cut_pieces(chunks, kind, **given):
        found[-1] += piece.text
        found += [""] * piece.last
    assert found.pop() == ""
    return found


def shuffled(tokens: np.ndarray, mark: int, seed: int, epoch: int) -> np.ndarray:
    """All tokens in the order of an epoch."""
    return Shuffled(tokens, ends_of(tokens, mark), seed, epoch)[:]


def test_what_a_document_is() -> None:
    assert cut("a\n\nb c\n", "lines") == ["a", "b c"]
    assert cut("a\nb\n\n\nc\n\nd\n", "separated", separator="\n\n") == ["a\nb", "c", "d"]
    assert cut("a\n%%\n b\n%%\n", "separated", separator="%%") == ["a", " b"]
    assert cut(FASTA, "records", record="^>") == ["; a remark", ">one\nACGT\nAC", ">two\nGG", ">three\nT"]
    assert cut("x > y\n", "files") == ["x > y\n"]


@given(st.text("a>\n", max_size=30))
def test_records_lose_nothing_but_line_ends(text: str) -> None:
    if not any(line.startswith(">") for line in text.split("\n")):
        with pytest.raises(UserError, match="nowhere found"):
            cut(text, "records", record="^>", name="x.txt")
        return
    found = cut(text, "records", record="^>")
    assert "".join(found).replace("\n", "") == text.replace("\n", "")
    assert all(piece.startswith(">") for piece in found[1:])


def test_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    text = 'id,text\n1,"one, and\nmore"\n2,\n3,three\n'
    assert columns_of(path, text, "text") == ["one, and\nmore", "three"]
    with pytest.raises(UserError, match=r"no column 'txt'; did you mean text\?"):
        columns_of(path, text, "txt")


@given(
    st.lists(st.lists(st.integers(1, 5), max_size=4), min_size=1, max_size=12),
    st.integers(0, 99),
    st.integers(1, 9),
)
def test_an_epoch_has_every_document_once(documents: list[list[int]], seed: int, epoch: int) -> None:
    row = np.array([0, *(n for document in documents for n in [*document, 0])], dtype=np.int32)
    mixed = shuffled(row, 0, seed, epoch)
    assert mixed.dtype == row.dtype
    assert sorted(pieces(mixed)) == sorted(pieces(row))
    assert (mixed == shuffled(row, 0, seed, epoch)).all()


def pieces(row: np.ndarray) -> list[list[int]]:
    """The documents of mark d_1 mark ... mark, by hand."""
    assert row[0] == row[-1] == 0
    found: list[list[int]] = [[]]
    for n in row[1:].tolist():
        if n:
            found[-1].append(n)
        else:
            found.append([])
    return found[:-1]


def test_epochs_and_seeds_have_other_orders() -> None:
    row = np.array([0, *(n for k in range(1, 30) for n in (k, 0))], dtype=np.int32)
    orders = {shuffled(row, 0, seed, epoch).tobytes() for seed in range(3) for epoch in range(1, 4)}
    assert len(orders) == 9


@pytest.mark.parametrize("kind", ["characters", "bytes", "words", "bpe"])
def test_a_corpus_has_a_mark_around_every_document(tmp_path: Path, kind: str) -> None:
    texts = [f"line {n % 5} of them\nand more" for n in range(60)]
    (tmp_path / "a.txt").write_text("\n\n".join(texts))
    settings = CorpusSettings(
        train=(str(tmp_path / "a.txt"),), documents="separated", tokens=kind, batch=2, steps=3, vocabulary=0
    )
    corpus = read_corpus(settings)
    mark = corpus.tokenizer.mark
    found = []
    for part in corpus.parts:
        row = part.tokens.tolist()
        assert row[0] == row[-1] == mark
        places = [i for i, n in enumerate(row) if n == mark]
        found += [corpus.tokenizer.decode(row[a + 1 : b]) for a, b in pairwise(places)]
    assert sorted(text.rstrip("\n") for text in found) == sorted(texts)
    assert any("documents" in line for line in corpus.lines())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"documents": "records"}, "needs --record"),
        ({"documents": "records", "record": "("}, "no regular expression"),
        ({"documents": "separated", "separator": ""}, "--separator is empty"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CorpusSettings(**settings)  # type: ignore[arg-type]
