"""Labelled rows, drawn, and written in every form and encoding; the readers' counterpart."""

import csv
import io
import json
from collections.abc import Sequence

from hypothesis import strategies as st

# Hard on readers: delimiters, quotes, brackets, line ends within a cell, and signs that some take for line ends.
LETTERS = "abcdeé ß漢,;|\t\"'\\[]{}()\n\r\u2028\x1c\x85:0_."
LABELS = ("joy", "anger", "no news", "état", "très bien")


def texts(letters: str = LETTERS) -> st.SearchStrategy[str]:
    """A text that is not blank and long enough to be told from a label."""
    return st.text(letters, min_size=1, max_size=30).map(lambda text: f"so {text} it is")


def rows(letters: str = LETTERS, labels: Sequence[str] = LABELS) -> st.SearchStrategy[list[tuple[str, str]]]:
    """Texts and labels; each label comes twice at least, so that one can see what it is."""
    one = st.tuples(texts(letters), st.sampled_from(labels[:2]))
    extra = st.lists(st.tuples(texts(letters), st.sampled_from(labels)), max_size=8)
    return st.tuples(st.lists(one, min_size=6, max_size=12), extra).map(
        lambda drawn: [
            *drawn[0],
            *[(f"text {i} {label}", label) for label in labels for i in range(3)],
            *drawn[1],
        ]
    )


def delimited(
    table: Sequence[Sequence[str]],
    delimiter: str,
    *,
    header: Sequence[str] = (),
    ends: str = "\n",
    escape: bool = False,
) -> str:
    """The rows as csv: quoted where needed, quotes doubled or behind a backslash."""
    file = io.StringIO(newline="")
    writer = csv.writer(
        file,
        delimiter=delimiter,
        lineterminator=ends,
        quoting=csv.QUOTE_ALL,
        doublequote=not escape,
        escapechar="\\" if escape else None,
    )
    writer.writerows([header, *table] if header else table)
    return file.getvalue()


def json_lines(table: Sequence[tuple[str, str]], *, ascii_only: bool = False) -> str:
    """An object a line."""
    records = [{"body": text, "mood": label} for text, label in table]
    return "".join(json.dumps(record, ensure_ascii=ascii_only) + "\n" for record in records)
