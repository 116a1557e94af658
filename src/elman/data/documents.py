"""Documents: what of a text belongs together, where each begins, and their order in an epoch.

A document is a file, a line, what stands between two separators, a cell of a table, or a record. Behind each stands the
tokenizer's mark; where documents are kept apart, one stands in front of the first too:

    mark d_1 mark d_2 mark ... d_N mark
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from elman.config import UserError, nearest
from elman.data.account import Account
from elman.data.mapped import Tokens, blocks
from elman.data.pieces import Piece, split, whole
from elman.data.table import read_table

__all__ = ["Kind", "Shuffled", "columns_of", "compiled", "cut", "ends_of"]

Kind = Literal["joined", "files", "lines", "separated", "column", "records"]


def cut(
    chunks: Iterable[str], kind: Kind, *, separator: str = "", record: str = "", name: str = ""
) -> Iterator[Piece]:
    """The documents of a text that comes in chunks, in pieces; those without a letter are left out.

    joined, files, column: all of it is one. lines: each line. separated: what stands between two `separator`s, without
    the line ends around it. records: what stands from one match of the regular expression `record` to the next, `^` a
    line's start; without the line ends behind it. Of records the whole text is held, else a document at most; of a
    file that is one, a chunk.
    Raises UserError for a pattern that is none, and for one that is nowhere in the text. name: of its file, for these.
    """
    if kind == "lines":
        found = split(chunks, "\n")
    elif kind == "separated":
        found = (text.strip("\n") for text in split(chunks, separator))
    elif kind == "records":
        found = (text.rstrip("\n") for text in _records("".join(chunks), record, name))
    else:
        return _lettered(whole(chunks))
    return (Piece(text) for text in found if text.strip())


def _lettered(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """A document, or nothing where there is no letter in it."""
    blank: list[Piece] | None = []
    for piece in pieces:
        if blank is not None and not piece.text.strip():
            blank.append(piece)
            continue
        yield from blank or ()
        blank = None
        yield piece


def compiled(record: str) -> re.Pattern[str]:
    """The pattern at whose matches a record begins. Raises UserError for one that is none."""
    try:
        return re.compile(record, re.MULTILINE)
    except re.error as error:
        raise UserError(f"--record {record!r} is no regular expression: {error}") from None


def _records(text: str, record: str, name: str) -> list[str]:
    starts = [match.start() for match in compiled(record).finditer(text)]
    if not starts:
        raise UserError(f"{name}: no record begins in it, --record {record!r} is nowhere found")
    # What stands in front of the first record is one too.
    places = [0, *starts, len(text)]
    return [text[a:b] for a, b in pairwise(places)]


def columns_of(path: Path, text: str, field: str) -> list[str]:
    """The cells of a column of a table (csv, tsv, ...), a document each; an empty one is left out.

    Raises UserError where the text is no table or has no such column.
    """
    table = read_table(str(path), text, Account("rows"))
    if table is None:
        raise UserError(
            f"{path} is no table: name a .csv, .tsv or .jsonl file, or leave --documents column out"
        )
    if field not in table.columns:
        words = ", ".join(table.columns)
        raise UserError(
            f"{path} has no column {field!r}{nearest(field, table.columns)}; --field takes one of {words}"
        )
    cells = (row.values.get(field) for row in table.rows)
    return [cell for cell in cells if isinstance(cell, str) and cell.strip()]


def ends_of(tokens: Tokens, mark: int) -> npt.NDArray[np.int64]:
    """Where the marks of `mark d_1 mark d_2 mark ...` stand."""
    found = [first + np.flatnonzero(block == mark) for first, block in blocks(tokens)]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


class Shuffled:
    """The documents of `mark d_1 mark d_2 mark ...` in another order, which seed and epoch decide.

    Indexed as the array of all these tokens would be, which is never made: two numbers are held for each document.
    """

    def __init__(self, tokens: Tokens, marks: npt.NDArray[np.int64], seed: int, epoch: int) -> None:
        """marks: their places, `ends_of`."""
        begins, lengths = marks[:-1] + 1, np.diff(marks)
        order = np.random.default_rng([seed, epoch]).permutation(len(begins))
        lengths = lengths[order]
        # The places in front of a document's first one are those of the mark and of the documents before it.
        self._ends = np.cumsum(lengths) + 1
        self._moved = begins[order] - (self._ends - lengths)
        # Under this name an array has what it is cut from, too.
        self.base = tokens
        self.dtype = tokens.dtype

    def __len__(self) -> int:
        """Count the tokens."""
        return int(self._ends[-1]) if len(self._ends) else len(self.base)

    def __getitem__(self, places: npt.NDArray[np.int64] | slice) -> Tokens:
        """The tokens at some places, from 0."""
        if isinstance(places, slice):
            places = np.arange(len(self))[places]
        if not len(self._ends):
            return self.base[places]
        document = np.searchsorted(self._ends, places, side="right")
        return self.base[np.where(places == 0, 0, places + self._moved[document])]
