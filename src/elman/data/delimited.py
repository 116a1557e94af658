"""Rows of delimited text (csv, tsv, `text;label`), and how it is delimited and quoted."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from elman.data.encoding import lines_of

__all__ = ["DELIMITERS", "Dialect", "Row", "read_rows", "sniff"]

DELIMITERS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
# Quotes written twice within quotes, quotes behind a backslash, and no quotes at all.
QUOTINGS = (('"', ""), ('"', "\\"), ("", ""))
SAMPLE = 1 << 18


class Dialect(NamedTuple):
    """How cells are set apart. quote: `"`, or nothing where quotes are letters like others; escape: in front of quotes.

    Without an escape, a quote within quotes is written twice.
    """

    delimiter: str
    quote: str = '"'
    escape: str = ""

    def __str__(self) -> str:
        """Say it in words."""
        names = {sign: name for name, sign in DELIMITERS.items()}
        within = f" ({self.escape}{self.quote} within)" if self.escape else ""
        quoted = f"quotes {self.quote}{within}" if self.quote else "no quotes"
        return f"delimited by {names.get(self.delimiter, repr(self.delimiter))}, {quoted}"


class Row(NamedTuple):
    """The cells of a row and the line (from 1) on which it begins; None where its quotes are broken."""

    line: int
    cells: Sequence[str] | None


def read_rows(text: str, dialect: Dialect) -> list[Row]:
    """The rows of a text. A blank line is a row without cells.

    A row whose quotes do not close, or close before a letter, has no cells, and reading goes on at the line after the
    one where it begins: a stray quote costs its own row, not all rows to the next quote.
    """
    if not dialect.quote:
        return [
            Row(number, line.split(dialect.delimiter) if line else [])
            for number, line in enumerate(lines_of(text), 1)
        ]
    old = csv.field_size_limit(2**31 - 1)
    try:
        return list(_quoted(io.StringIO(text, newline="").readlines(), dialect))
    finally:
        csv.field_size_limit(old)


def _quoted(lines: Sequence[str], dialect: Dialect) -> Iterator[Row]:
    start = 0
    while start < len(lines):
        begun = start
        reader = csv.reader(
            (lines[number] for number in range(start, len(lines))),
            delimiter=dialect.delimiter,
            quotechar=dialect.quote,
            escapechar=dialect.escape or None,
            doublequote=not dialect.escape,
            strict=True,
        )
        try:
            for cells in reader:
                yield Row(begun + 1, cells)
                begun = start + reader.line_num
        except csv.Error:
            yield Row(begun + 1, None)
            begun += 1
        start = begun


def sniff(text: str, delimiters: Sequence[str] = tuple(DELIMITERS.values())) -> Dialect | None:
    """The dialect under which most rows have as many cells as the first one; None where the text is no table."""
    sample = text if len(text) <= SAMPLE else text[: text.rfind("\n", 0, SAMPLE) + 1] or text[:SAMPLE]
    first = next((line for line in lines_of(sample) if line), "")
    # Read with an escape, quotes inside of a cell are dropped in silence: not where none is escaped.
    quotings = [quoting for quoting in QUOTINGS if not quoting[1] or quoting[1] + quoting[0] in text]
    tried = [
        Dialect(delimiter, *quoting)
        for delimiter in delimiters
        if delimiter in first or '"' in first
        for quoting in quotings
    ]
    shares = {dialect: _agreement(read_rows(sample, dialect)) for dialect in tried}
    if not shares or max(shares.values()) <= 0.5:
        return None
    best = max(shares, key=lambda dialect: round(shares[dialect], 6))
    if len(sample) == len(text):
        return best
    # Quotes may go wrong only further down.
    whole = [Dialect(best.delimiter, *quoting) for quoting in quotings]
    return max(whole, key=lambda dialect: round(_agreement(read_rows(text, dialect)), 6))


def _agreement(rows: Sequence[Row]) -> float:
    """The share of rows with as many cells as the first has; 0 for a single column."""
    counts = Counter(len(row.cells) if row.cells is not None else -1 for row in rows if row.cells != [])
    width = len(rows[0].cells or ()) if rows else 0
    return counts[width] / counts.total() if width > 1 else 0.0
